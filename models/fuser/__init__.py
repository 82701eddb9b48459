"""The fuser's gates: fitted on compositions of held-out items, compared with other fusers."""

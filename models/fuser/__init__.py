"""fuser: the gates of fusion, fitted on compositions of held-out items, compared with other fusers."""

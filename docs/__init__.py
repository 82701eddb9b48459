"""Documents, and what draws them."""

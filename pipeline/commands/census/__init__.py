"""`python -m pipeline census RECIPE...`: what data comes to under model recipes, before anything is paid for it."""

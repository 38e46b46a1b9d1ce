"""What the paper shows: Table 1 and Figures 1, 2, 3 and 7 from finished runs. Never imports torch."""

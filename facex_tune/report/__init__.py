"""What a run says of itself: findings, figures, the page, model cards and tables, from `report.json` alone."""

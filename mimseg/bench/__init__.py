"""What training costs, beside the stock models."""

"""What people see: numbers, tables and figures for the paper, results files, manifests."""

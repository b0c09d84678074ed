"""How good results are: formulas with known values, one subject a file. Metrics that a task alone has stay with it."""

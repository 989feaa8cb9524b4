"""Risk: what personalisation costs customers in complaints, opt-outs and rights."""

"""Sales: what personalisation adds, customer by customer, after all costs."""

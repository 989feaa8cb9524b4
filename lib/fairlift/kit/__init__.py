"""Documents that a study leaves: the plan sized from its own past, written for people to sign."""

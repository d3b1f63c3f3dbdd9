"""What a step costs: a roofline of any shape on any chip, and tables of measured steps."""

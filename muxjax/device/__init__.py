"""Steps on the devices: compiled programs, the executor that runs them, and what the devices hold."""

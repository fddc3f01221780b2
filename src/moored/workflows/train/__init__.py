"""`moored train`: a TRL fine-tune with safeguards from one YAML file."""

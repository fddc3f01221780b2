"""What users name: models, prompt sets, pools of examples."""

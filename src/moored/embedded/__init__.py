"""What makes moored run with nothing else: a default model, prompts and a task that the project wrote itself."""

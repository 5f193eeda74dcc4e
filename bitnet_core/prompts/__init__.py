"""What a prompt is, the files that hold prompts, and templates that they are drawn from. It knows no teacher."""

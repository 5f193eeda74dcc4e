"""What a training, its student and its teacher will take, before it starts: formulas, and a few timed steps."""

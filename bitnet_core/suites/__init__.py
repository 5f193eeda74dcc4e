"""Items with answers that a program can grade, the graders, and scores with intervals. It knows no model."""

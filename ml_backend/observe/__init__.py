"""What the program tells people and machines about itself: metrics, facts about the loop, tables."""

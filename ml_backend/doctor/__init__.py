"""`rankloop doctor`: every part of the loop examined, with what to do about what is wrong."""

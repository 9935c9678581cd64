"""The parts of the bench `receive`: what is sent, how, and to whom."""

"""How far contours agree with a reference: measures over structures, patients and their populations."""

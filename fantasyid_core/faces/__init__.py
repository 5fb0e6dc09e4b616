"""Room 1, faces: find every face in a photograph, choose one, align it."""

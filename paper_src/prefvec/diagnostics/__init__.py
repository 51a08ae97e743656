"""Why transfer loses effect: magnitude, basis or layer, and how much each of them takes."""

"""The recipe of the starter model: draw, caption, train, measure, export."""

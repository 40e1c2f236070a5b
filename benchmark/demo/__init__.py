"""`lobe demo`: the newcomer's journey, from generated radiographs to a ranked page."""

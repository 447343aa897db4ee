"""The main job: from a request to a landscape, point by point, never losing one."""

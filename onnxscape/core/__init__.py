"""The mathematics: grids, parameters, directions, landscapes. numpy only, no I/O."""

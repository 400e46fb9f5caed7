"""Programs that measure natsvc beside other ways to do the same."""

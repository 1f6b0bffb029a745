"""The loop between driver and processes: leases go out, receipts come in and are committed."""

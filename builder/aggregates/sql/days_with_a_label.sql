    days

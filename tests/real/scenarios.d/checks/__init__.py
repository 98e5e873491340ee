"""All checks; each is one class, in the file of what it is about."""
from checks.beat import Beat
from checks.changes import Scans, Stock
from checks.poison import Lab
from checks.queries import Captains, Deals, Takings
from checks.rows import Archive, Orders
from checks.transactions import Bank, Half
from checks.values import Prices

ALL = [Orders, Archive, Takings, Deals, Captains, Stock, Scans, Lab, Bank, Half, Prices, Beat]

"""Tariff, account and charges: the one implementation for meter, gateway and bill. Imports core."""

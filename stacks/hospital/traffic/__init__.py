"""The hospital's traffic: what wards, admission desk and laboratory do all day, as Locust load.

It judges nothing: it does what people would do and writes down what they saw.
"""

"""Instruction data of other people's making: files, folders and hub data sets, read as single questions and answers."""

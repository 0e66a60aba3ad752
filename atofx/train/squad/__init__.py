"""The task of answering questions on a text: SQuAD v1.1 with BERT. Needs the ``[squad]`` extra."""

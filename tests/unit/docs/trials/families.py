"""Uses what docs/howto says of families, where both pages are followed: one process, which imports torch once."""

from tests.unit.docs.trials import model_family, training_family

if __name__ == "__main__":
    model_family.main()
    training_family.main()

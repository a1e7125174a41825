from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.tasks import CreateTask, TaskPublic, TaskUpdate
from compute.tasks.registry import all_kinds, kind_of


def test_every_module_of_types_is_found_under_its_own_name() -> None:
    kinds = all_kinds()
    assert TaskType.GENERATION in kinds
    for name, kind in kinds.items():
        assert kind is kind_of(name)
        assert kind.create_model.model_fields["task_type"].default == name
        assert kind.public_model.model_fields["task_type"].default == name
        assert issubclass(kind.create_model, CreateTask)
        assert issubclass(kind.public_model, TaskPublic)
        assert issubclass(kind.update_model, TaskUpdate)
        assert kind.capabilities <= set(ProviderCapability)
        assert kind.folder.strip("/") == kind.folder


def test_no_two_types_share_a_folder() -> None:
    folders = [kind.folder for kind in all_kinds().values()]
    assert len(folders) == len(set(folders))

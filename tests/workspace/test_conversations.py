"""Conversations: branches, what is looked at, words found, nothing deleted for good at once."""

import time

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.errors import InputError, NotFoundError
from cllm.workspace import conversation_search, conversation_tables, database
from cllm.workspace.conversation_tables import MessageRow
from cllm.workspace.database import Database
from cllm.workspace.workspace import Workspace


@pytest.fixture
def store(tmp_path):
    return Workspace(tmp_path / "home").conversations


@pytest.fixture
def talk(store):
    """A question with an answer, twice."""
    talk = store.create(title="Foxes", model="m")
    for role, text in [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]:
        store.add(talk.id, role, text)
    return talk.id


def texts(store, talk):
    return [message.text for message in store.branch(talk)]


def test_a_conversation_is_kept_as_it_was_made(store):
    made = store.create(title=" A\n title ", model="m", mode="write", settings={"temperature": 0.5})
    assert (made.title, made.mode, made.leaf) == ("A title", "write", None)
    assert store.get(made.id) == made
    changed = store.change(made.id, title="Other", model="n")
    assert (changed.title, changed.model, changed.mode) == ("Other", "n", "write")
    assert store.get(made.id).settings == {"temperature": 0.5}


def test_messages_follow_each_other(store, talk):
    assert texts(store, talk) == ["q1", "a1", "q2", "a2"]
    page = store.messages(talk)
    assert [message.text for message in page.items] == ["q1", "a1", "q2", "a2"]
    assert not page.has_more
    assert [message.siblings for message in page.items] == [(m.id,) for m in page.items]


def test_an_edited_question_and_a_regenerated_answer_are_branches(store, talk):
    q1, a1, q2, a2 = store.branch(talk)
    other = store.add(talk, "assistant", "a1 again", beside=a1.id)
    assert texts(store, talk) == ["q1", "a1 again"]
    assert other.siblings == (a1.id, other.id)
    store.select(talk, a1.id)
    assert texts(store, talk) == ["q1", "a1", "q2", "a2"], "down to the newest end"
    edited = store.add(talk, "user", "another beginning", beside=q1.id)
    assert edited.parent is None
    assert store.messages(talk).items[0].siblings == (q1.id, edited.id)
    store.select(talk, other.id)
    assert texts(store, talk) == ["q1", "a1 again"]
    below = store.add(talk, "user", "q3", parent=a2.id)
    assert texts(store, talk) == ["q1", "a1", "q2", "a2", "q3"]
    assert (below.parent, q2.parent) == (a2.id, a1.id)
    assert len(store.tree(talk)) == 7


def test_a_parent_and_a_sibling_do_not_go_together(store, talk):
    first, second, *_ = store.branch(talk)
    with pytest.raises(InputError):
        store.add(talk, "user", "x", parent=first.id, beside=second.id)


def test_a_message_of_another_conversation_is_not_found(store, talk):
    other = store.create()
    message = store.branch(talk)[0].id
    for call in (
        lambda: store.add(other.id, "user", "x", parent=message),
        lambda: store.select(other.id, message),
        lambda: store.rewrite(other.id, message, text="x"),
        lambda: store.remove_message(other.id, message),
        lambda: store.messages(other.id, before=message),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert texts(store, talk)[0] == "q1"


def test_a_message_can_be_rewritten_while_it_is_streamed(store, talk):
    made = store.add(talk, "assistant", "", details={"model": "m"})
    store.rewrite(talk, made.id, text="Once")
    done = store.rewrite(
        talk, made.id, text="Once upon", tokens=2, alternatives=[[["a", -1.0]]], details={"s": 3}
    )
    assert (done.text, done.tokens, done.alternatives) == ("Once upon", 2, [[["a", -1.0]]])
    assert store.branch(talk)[-1].details == {"model": "m", "s": 3}


def test_removing_a_message_takes_all_below_it(store, talk):
    q1, a1, q2, a2 = store.branch(talk)
    other = store.add(talk, "user", "q2 otherwise", beside=q2.id)
    store.select(talk, a2.id)
    left = store.remove_message(talk, q2.id)
    assert left.leaf == other.id
    assert [message.id for message in store.tree(talk)] == [q1.id, a1.id, other.id]
    assert store.remove_message(talk, other.id).leaf == a1.id
    assert store.remove_message(talk, q1.id).leaf is None
    assert store.tree(talk) == []


def test_a_long_branch_comes_in_pages(store, talk):
    for number in range(20):
        store.add(talk, "user", f"m{number}")
    seen, before = [], None
    while True:
        page = store.messages(talk, before=before, limit=7)
        seen = [message.text for message in page.items] + seen
        if not page.has_more:
            break
        before = page.items[0].id
    assert seen == texts(store, talk)
    assert len(seen) == 24
    assert [message.text for message in store.branch(talk, last=3)] == ["m17", "m18", "m19"]


def test_the_list_has_the_last_changed_first(store):
    made = [store.create(title=str(number), mode="write").id for number in range(5)]
    store.create(title="chat")
    store.add(made[1], "document", "x")
    page = store.list(mode="write", limit=2)
    assert page.total == 5
    assert [item.conversation.id for item in page.items] == [made[1], made[4]]
    rest = store.list(mode="write", offset=2, limit=9)
    assert [item.conversation.id for item in rest.items] == [made[3], made[2], made[0]]


def found(store, words):
    return {item.conversation.title for item in store.list(search=words).items}


@pytest.fixture(params=["index", "like"])
def searched(request, store, monkeypatch):
    """The same answers from the index of SQLite and, as other databases do it, by LIKE."""
    if request.param == "like":
        monkeypatch.setattr(conversation_search, "_has_index", lambda session: False)
    return store


def test_words_and_parts_of_words_are_found(searched):
    for title, text in [
        ("one", "The red foxes sleep near the river."),
        ("two", 'A fox, 100% sure, and "quoted" AND NOT it\'s'),
        ("three", "雨が静かに降っている"),
        ("Foxglove", "nothing of the kind"),
    ]:
        searched.add(searched.create(title=title).id, "user", text)
    assert found(searched, "fox") == {"one", "two", "Foxglove"}
    assert found(searched, "FOXES river") == {"one"}
    assert found(searched, "foxes sure") == set(), "all words in one message"
    assert found(searched, "oxe") == {"one"}
    assert found(searched, "静かに") == {"three"}
    assert found(searched, "雨") == {"three"}
    assert found(searched, "100%") == {"two"}
    assert found(searched, '"quoted"') == {"two"}
    for odd in ('"', "%", "_x_", "NEAR(", "a* OR b", "it's", "-red", "text:red", "\\"):
        found(searched, odd)
    assert found(searched, "NOT") == {"one", "two", "Foxglove"} - {"one"}


def test_what_was_found_is_shown_and_named(searched):
    talk = searched.create(title="t").id
    searched.add(talk, "user", "fox at first")
    last = searched.add(talk, "user", "x " * 200 + "the fox\nat last " + "y " * 200)
    [item] = searched.list(search="fox").items
    assert item.message == last.id
    assert "the fox at last" in item.snippet
    assert item.snippet.startswith("…") and item.snippet.endswith("…")
    assert len(item.snippet) < 200


def test_the_index_follows_changes_and_removals(store, talk):
    message = store.branch(talk)[-1].id
    store.rewrite(talk, message, text="zebra")
    assert found(store, "zebra") == {"Foxes"}
    store.rewrite(talk, message, text="giraffe")
    assert found(store, "zebra") == set()
    store.remove_message(talk, message)
    assert found(store, "giraffe") == set()


def test_a_deleted_conversation_can_be_brought_back_until_it_is_purged(store, talk):
    kept = store.create(title="kept").id
    store.delete(talk)
    with pytest.raises(NotFoundError):
        store.get(talk)
    with pytest.raises(NotFoundError):
        store.add(talk, "user", "x")
    assert store.list().total == 1
    assert found(store, "q1") == set()
    assert store.purge(days=1.0) == 0
    assert store.restore(talk).title == "Foxes"
    assert texts(store, talk) == ["q1", "a1", "q2", "a2"]
    store.delete(talk)
    assert store.purge(days=0.0) == 1
    with pytest.raises(NotFoundError):
        store.restore(talk)
    assert [item.conversation.id for item in store.list().items] == [kept]


def test_conversations_follow_a_model_to_its_new_name(store, talk):
    store.rename_model("m", "n")
    assert store.get(talk).model == "n"
    assert (store.count_with("m"), store.count_with("n")) == (0, 1)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["below", "beside", "select"]), st.integers(0, 10**6))))
def test_the_branch_is_the_way_from_the_first_message_to_the_leaf(tmp_path_factory, steps):
    store = Workspace(tmp_path_factory.mktemp("home")).conversations
    talk = store.create().id
    parents: dict[int, int | None] = {}
    for kind, pick in steps:
        known = sorted(parents)
        if not known:
            made = store.add(talk, "user", "first")
            parents[made.id] = None
            continue
        message = known[pick % len(known)]
        if kind == "select":
            store.select(talk, message)
            continue
        made = store.add(talk, "user", "x", **{"parent" if kind == "below" else "beside": message})
        parents[made.id] = message if kind == "below" else parents[message]
    way, leaf = [], store.get(talk).leaf
    while leaf is not None:
        way.append(leaf)
        leaf = parents[leaf]
    assert [message.id for message in store.branch(talk)] == way[::-1]
    for message in store.messages(talk, limit=1000).items:
        expected = [other for other in sorted(parents) if parents[other] == message.parent]
        assert list(message.siblings) == expected


def test_a_database_of_version_one_gets_the_tables(tmp_path, monkeypatch):
    home = tmp_path / "home"
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        run = Workspace(home).runs.create("m", {})
    workspace = Workspace(home)
    talk = workspace.conversations.create(title="new")
    workspace.conversations.add(talk.id, "user", "text to find")
    assert found(workspace.conversations, "find") == {"new"}
    assert workspace.runs.get(run.id).model == "m"


def test_the_migrated_tables_are_those_the_classes_describe(tmp_path):
    with Database(tmp_path / "a.db").write():
        pass
    fresh = sa.create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    conversation_tables.Base.metadata.create_all(fresh)
    migrated = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    for table in conversation_tables.Base.metadata.tables:
        shapes = [
            (
                {
                    (column["name"], str(column["type"]), column["nullable"])
                    for column in sa.inspect(engine).get_columns(table)
                },
                {
                    (index["name"], tuple(index["column_names"]))
                    for index in sa.inspect(engine).get_indexes(table)
                },
            )
            for engine in (migrated, fresh)
        ]
        assert shapes[0] == shapes[1]


def test_a_hundred_thousand_messages_cost_a_page_no_more_than_a_few(tmp_path):
    """Counted in rows that the database visits, which do not depend on the machine."""
    base = Database(tmp_path / "cllm.db")
    store = Workspace(tmp_path).conversations
    talk = store.create(title="long").id
    first = store.add(talk, "user", "the very first").id
    count = 100_000
    rows = [
        {
            "id": first + number,
            "conversation": talk,
            "parent": first + number - 1,
            "role": "user",
            "text": f"message {number} of many",
            "details": {},
            "created": time.time(),
        }
        for number in range(1, count)
    ]
    with base.write() as session:
        session.execute(sa.insert(MessageRow), rows)
    store.select(talk, first + count - 1)
    steps = []
    engine = base._open()

    @sa.event.listens_for(engine, "checkout")
    def watch(connection, record, proxy):
        connection.set_progress_handler(lambda: steps.append(1) and 0, 1000)

    near = Workspace(tmp_path).conversations
    near._database._engine = engine
    page = near.messages(talk, limit=50)
    assert [page.items[-1].text, len(page.items)] == [f"message {count - 1} of many", 50]
    assert len(steps) <= 20, "thousands of the database's own instructions"
    steps.clear()
    assert near.list(search=f"message {count // 2}").items[0].message == first + count // 2
    assert near.list().total == 1

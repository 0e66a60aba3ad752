"""The page's own scripts, run by node on the page's own data."""

import json

import pytest

import atofx


@pytest.mark.parametrize("share", [1.0, 0.63, 0.25, 0.001])
def test_flops_and_parameters_are_those_of_the_mask_the_sliders_describe(program, in_page, share):
    code = """
    const groups = data.groups.filter((group) => group.prunable);
    const counts = groups.map(({ size }) => mask.kept(size, input));
    return { ...cost.total(data.cost, counts), mask: mask.toJson(groups, counts) };
    """
    shown = in_page(program, code, share)
    mask = atofx.Mask.from_json(shown["mask"])
    assert set(mask) == {group.name for group in program.prunable}
    assert all(bool(vector.any()) for vector in mask.values())
    assert shown["flops"] == program.flops(mask)
    assert shown["params"] == program.params(mask)


def test_every_unit_of_one_group_counts(resnet20, in_page):
    code = """
    const counts = data.groups.filter((group) => group.prunable).map(({ size }) => size);
    return counts.map((_, g) => cost.total(data.cost, counts.map((size, i) => (i === g ? 1 : size))));
    """
    for group, shown in zip(resnet20.prunable, in_page(resnet20, code), strict=True):
        mask = resnet20.full_mask()
        vectors = {name: vector.clone() for name, vector in mask.items()}
        vectors[group.name][1:] = False
        assert shown == {"flops": resnet20.flops(vectors), "params": resnet20.params(vectors)}


VISIBLE = """
const tree = hierarchy.build(data, input.sizes ? undefined : hierarchy.carriesTensor);
const open = input.all ? new Set(tree.modules.keys()) : new Set(input.open ?? []);
const graph = hierarchy.visible(data, tree, open);
const edges = graph.edges.map(({ id, source, target }) => ({ id, source, target }));
"""


def test_closed_modules_stand_for_all_inside(resnet20, in_page):
    graph = in_page(resnet20, VISIBLE + "return { boxes: graph.boxes.map((b) => b.id), edges };", {})
    assert "module:layer1" in graph["boxes"]
    assert len(graph["boxes"]) < 15
    assert {"source": "module:layer1", "target": "module:layer2"}.items() <= next(
        edge for edge in graph["edges"] if edge["source"] == "module:layer1"
    ).items()


def test_all_open_shows_every_node(program, in_page):
    code = (
        VISIBLE
        + "return { nodes: graph.boxes.filter((b) => b.kind === 'node').map((b) => b.node), edges: edges.length };"
    )
    graph = in_page(program, code, {"all": True, "sizes": True})
    assert sorted(graph["nodes"]) == list(range(len(program.graph)))
    assert graph["edges"] == program.graph.number_of_edges()


def test_boxes_do_not_overlap_and_stand_inside_their_module(program, in_page):
    code = (
        VISIBLE
        + """
    const { boxes, edges: bends } = layout.place(dagre, graph, () => ({ width: 90, height: 40 }));
    return { boxes: graph.boxes.map((b) => ({ id: b.id, parent: b.parent ?? null, ...boxes.get(b.id) })),
             bends: [...bends.values()] };
    """
    )
    laid = in_page(program, code, {"all": True})
    by_id = {box["id"]: box for box in laid["boxes"]}

    def sides(box: dict) -> tuple[float, float, float, float]:
        half = box["width"] / 2, box["height"] / 2
        return box["x"] - half[0], box["x"] + half[0], box["y"] - half[1], box["y"] + half[1]

    for box in laid["boxes"]:
        left, right, top, bottom = sides(box)
        if box["parent"]:
            outer = sides(by_id[box["parent"]])
            assert outer[0] <= left
            assert right <= outer[1]
            assert outer[2] <= top
            assert bottom <= outer[3]
        for other in laid["boxes"]:
            if other["id"] != box["id"] and other["parent"] == box["parent"]:
                a = sides(other)
                assert right <= a[0] or a[1] <= left or bottom <= a[2] or a[3] <= top, (box["id"], other["id"])
    assert all(isinstance(point["x"], (int, float)) for points in laid["bends"] for point in points)


def test_top_down(resnet20, in_page):
    code = (
        VISIBLE
        + """
    const { boxes } = layout.place(dagre, graph, () => ({ width: 90, height: 40 }));
    return edges.filter(({ source, target }) => boxes.get(source).y >= boxes.get(target).y);
    """
    )
    assert in_page(resnet20, code, {"all": True}) == []


def test_it_starts_with_few_boxes(resnet20, in_page):
    code = """
    const tree = hierarchy.build(data, hierarchy.carriesTensor);
    return hierarchy.visible(data, tree, hierarchy.opening(data, tree)).boxes.length;
    """
    assert 5 < in_page(resnet20, code) <= 40


def test_search_by_part_of_a_name(resnet20, in_page):
    code = """
    const tree = hierarchy.build(data, hierarchy.carriesTensor);
    const { found, total } = search.find(search.index(data, tree), input);
    return { found: found.map(({ kind, label }) => [kind, label]), total };
    """
    hit = in_page(resnet20, code, "LAYER2.0.conv1")
    assert ["Conv2d", "layer2.0.conv1"] in hit["found"]
    assert ["group", "layer2.0.conv1"] in hit["found"]
    assert ["parameter", "layer2.0.conv1.weight"] in hit["found"]
    assert hit["total"] == len(hit["found"])
    assert in_page(resnet20, code, "no such thing")["total"] == 0
    assert in_page(resnet20, code, " ")["total"] == 0


def luminance(colour: list[float]) -> float:
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("scheme", "text"), [("light", (22, 24, 29)), ("dark", (236, 238, 242))])
def test_text_on_every_colour_can_be_read(resnet20, in_page, scheme, text):
    code = """
    const fills = data.palette.groups.map((_, g) => colours.fill(data.palette, g, true, input));
    return [...fills, colours.fill(data.palette, 0, false, input)].map((css) => css.match(/[\\d.]+/g).map(Number));
    """
    for fill in in_page(resnet20, code, scheme):
        light, dark = sorted([luminance(fill), luminance(list(text))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, fill)


def test_numbers_as_text(resnet20, in_page):
    code = "return [format.quantity(41034752), format.quantity(999), format.shape([1, 3]), format.shape([])];"
    assert in_page(resnet20, code) == ["41.03 M", "999", "1×3", "scalar"]
    shapes = json.loads(json.dumps(in_page(resnet20, "return format.shapes([[1], [2], [1], [3, 4]]);")))
    assert shapes == "1, 2 and 1 more"

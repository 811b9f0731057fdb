"""Finds the variables that a graph only adds to.

The amounts that are added must not depend on the variables themselves. States of such
variables can be merged: two clients that start from the same state add together what
one client with the data of both would add. `v.assign_add(x)` adds, and so does
`v.assign(v + x)`. `v.assign(max(v, x))` does not.

The graph is read, not run, so data for which a maximum happens to equal a sum cannot
mislead it. An operation that is not understood counts as not additive.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

_ADDS = {
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "ResourceScatterAdd",
    "ResourceScatterSub",
    "ResourceScatterNdAdd",
    "ResourceScatterNdSub",
}
_LOOKS = {"ReadVariableOp", "VariableShape", "VarIsInitializedOp"}
_FORWARDS = {"Identity"}
# Their results depend on the shape of a tensor, not on its values.
_FORMS = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}


def written(function: Any, variables: Sequence[tf.Variable]) -> tuple[set[int], set[int]]:
    """Finds out how a graph writes to variables.

    Args:
      function: a concrete function.
      variables: the variables of interest.

    Returns:
      (changed, additive): the positions in `variables` that the graph writes to, and
        those of them that it only adds to.
    """
    definition = function.graph.as_graph_def()
    functions = {each.signature.name: each for each in definition.library.function}
    captured = function.inputs[len(function.inputs) - len(function.captured_inputs) :]
    places = {id(variable.handle): i for i, variable in enumerate(variables)}
    handles = {
        tensor.op.name: places[id(handle)]
        for tensor, handle in zip(captured, function.captured_inputs)
        if id(handle) in places
    }
    changed = _Reader(functions, frozenset()).read(definition.node, handles)
    reader = _Reader(functions, changed)
    reader.read(definition.node, handles)
    return set(changed), set(changed) - reader.overwritten


class _Reader:
    """Reads the nodes of a graph and of the functions that it calls.

    Args:
      functions: name -> FunctionDef.
      changed: positions of the variables whose values are followed.

    Attributes:
      overwritten: positions of variables that some node writes to without adding.
    """

    def __init__(self, functions: Mapping[str, Any], changed: Collection[int]) -> None:
        self._functions = functions
        self._changed = changed
        self._writes = set()
        self.overwritten = set()

    def read(
        self, nodes: Iterable[Any], handles: Mapping[str, int], dependent: Iterable[str] = ()
    ) -> frozenset[int]:
        """Reads nodes.

        Args:
          nodes: NodeDefs.
          handles: name of a node or argument that is the handle of a variable ->
            position of the variable.
          dependent: names of arguments that depend on the values of the variables.

        Returns:
          The positions of the variables written to so far.
        """
        by_name = {node.name: node for node in nodes}
        handles, dependent = dict(handles), set(dependent)
        sizes = None
        # The nodes of a function have no order, so they are read until nothing changes.
        while sizes != self._sizes(handles, dependent):
            sizes = self._sizes(handles, dependent)
            for node in by_name.values():
                self._read_node(node, by_name, handles, dependent)
        self._dependent = dependent
        return frozenset(self._writes)

    def _sizes(self, *sets):
        return [*map(len, (*sets, self._writes, self.overwritten))]

    def _read_node(self, node, nodes, handles, dependent):
        inputs = _inputs(node)
        variables = [handles[name] for name in inputs if name in handles]
        depends = any(name in dependent for name in inputs)
        if bodies := _bodies(node):
            self._call(node, bodies, inputs, handles, dependent)
        elif node.op in _FORWARDS and variables:
            handles[node.name] = variables[0]
        elif not variables:
            if depends and node.op not in _FORMS:
                dependent.add(node.name)
        elif node.op in _ADDS:
            self._writes.update(variables)
            if depends:
                self.overwritten.update(variables)
        elif node.op in _LOOKS:
            if node.op == "ReadVariableOp" and variables[0] in self._changed:
                dependent.add(node.name)
        else:
            self._writes.update(variables)
            if node.op != "AssignVariableOp" or not self._is_sum(
                inputs[1], variables[0], nodes, handles, dependent
            ):
                self.overwritten.update(variables)

    def _is_sum(self, name, variable, nodes, handles, dependent):
        """Whether a value is the variable plus something that does not depend on it."""
        node = nodes.get(name)
        if node is None:
            return False
        inputs = _inputs(node)
        if node.op == "ReadVariableOp":
            return handles.get(inputs[0]) == variable
        if node.op in _FORWARDS:
            return self._is_sum(inputs[0], variable, nodes, handles, dependent)
        if node.op in ("AddV2", "Add", "Sub"):
            sides = (inputs,) if node.op == "Sub" else (inputs, inputs[::-1])
            return any(
                b not in dependent and self._is_sum(a, variable, nodes, handles, dependent)
                for a, b in sides
            )
        return False

    def _call(self, node, bodies, inputs, handles, dependent):
        skipped = 1 if node.op in ("If", "StatelessIf", "Case", "StatelessCase") else 0
        for name in bodies:
            body = self._functions[name]
            arguments = [argument.name for argument in body.signature.input_arg]
            pairs = [*zip(arguments, inputs[skipped:])]
            inner = _Reader(self._functions, self._changed)
            inner.read(
                body.node_def,
                {argument: handles[given] for argument, given in pairs if given in handles},
                [argument for argument, given in pairs if given in dependent],
            )
            self._writes |= inner._writes
            self.overwritten |= inner.overwritten
            reads = len(inner._dependent) > 0
            # Whether or how often variables are written to may depend on their values.
            if any(given in dependent for given in inputs[:skipped]) or (
                reads and "While" in node.op
            ):
                self.overwritten |= inner._writes
            if reads:
                dependent.add(node.name)


def _inputs(node):
    """Names of the nodes or arguments whose values a node uses."""
    return [name.partition(":")[0] for name in node.input if not name.startswith("^")]


def _bodies(node):
    """Names of the functions that a node calls."""
    named = [value.func.name for value in node.attr.values() if value.HasField("func")]
    return named + [each.name for value in node.attr.values() for each in value.list.func]

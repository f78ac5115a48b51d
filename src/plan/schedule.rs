//! Runs work along the layer DAG: a layer follows its parent, and independent chains run in parallel.

use std::sync::OnceLock;

use super::graph::{LayerGraph, LayerIndex};
use crate::forest::Forest;

/// Calls `work(layer, parent's result)` for every layer, parents before children, in parallel where layers do not
/// depend on each other. Returns the results in the graph's order.
///
/// After the first error, no further layer is started.
///
/// # Errors
///
/// The error of `work`; if there are several, that of the first layer in the graph's order.
pub(crate) fn try_map_parents_first<T, E, F>(graph: &LayerGraph, work: F) -> Result<Vec<T>, E>
where
    T: Send + Sync,
    E: Send + Sync,
    F: Fn(LayerIndex, Option<&T>) -> Result<T, E> + Sync,
{
    let below = graph.iter().map(|(_, _, parent)| parent.map(|at| at.0));
    let run = ParallelMap {
        work,
        forest: Forest::new(below.collect()),
        slots: (0..graph.len()).map(|_| OnceLock::new()).collect(),
    };
    let shared = &run;
    rayon::scope(|scope| {
        for &root in shared.forest.roots() {
            scope.spawn(move |scope| shared.layer(scope, LayerIndex(root), None));
        }
    });
    let mut results = Vec::with_capacity(graph.len());
    let mut missing = None;
    for slot in run.slots {
        match slot.into_inner() {
            Some(Ok(result)) => results.push(result),
            Some(Err(error)) => return Err(error),
            None => missing = missing.or(Some(results.len())),
        }
    }
    assert!(
        missing.is_none(),
        "a layer is left out only above one that failed"
    );
    Ok(results)
}

struct ParallelMap<T, E, F> {
    work: F,
    forest: Forest,
    slots: Vec<OnceLock<Result<T, E>>>,
}

impl<T, E, F> ParallelMap<T, E, F>
where
    T: Send + Sync,
    E: Send + Sync,
    F: Fn(LayerIndex, Option<&T>) -> Result<T, E> + Sync,
{
    fn layer<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        layer: LayerIndex,
        parent: Option<LayerIndex>,
    ) {
        let below = parent
            .and_then(|at| self.slots[at.0].get())
            .and_then(|result| result.as_ref().ok());
        let result = (self.work)(layer, below);
        let failed = result.is_err();
        assert!(
            self.slots[layer.0].set(result).is_ok(),
            "each layer has its turn once"
        );
        if failed {
            return;
        }
        // Spawned, not called: a chain may be deeper than a thread's stack.
        for &child in self.forest.children(layer.0) {
            scope.spawn(move |scope| self.layer(scope, LayerIndex(child), Some(layer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::CacheId;

    fn graph(parents: &[Option<usize>]) -> LayerGraph {
        let id = |at: usize| CacheId::parse(format!("{at:05}").as_bytes()).unwrap();
        let pairs = parents
            .iter()
            .enumerate()
            .map(|(at, parent)| (id(at), parent.map(id)));
        LayerGraph::new(&pairs.collect()).unwrap()
    }

    #[test]
    fn each_layer_sees_its_parents_result() {
        let graph = graph(&[None, Some(0), Some(1), Some(0), None]);
        let depths = try_map_parents_first(&graph, |_, below: Option<&u32>| {
            Ok::<_, ()>(below.map_or(0, |n| n + 1))
        });
        assert_eq!(depths.unwrap(), [0, 1, 2, 1, 0]);
    }

    #[test]
    fn a_deep_chain_needs_no_stack() {
        let parents: Vec<_> = (0..50_000usize).map(|at| at.checked_sub(1)).collect();
        let results = try_map_parents_first(&graph(&parents), |_, below: Option<&u32>| {
            Ok::<_, ()>(below.map_or(0, |n| n + 1))
        });
        assert_eq!(results.unwrap().last(), Some(&49_999));
    }

    #[test]
    fn an_error_stops_the_layers_above_it() {
        let graph = graph(&[None, Some(0), Some(1)]);
        let result = try_map_parents_first(
            &graph,
            |layer, _: Option<&()>| if layer.0 == 1 { Err("no") } else { Ok(()) },
        );
        assert_eq!(result, Err("no"));
    }
}

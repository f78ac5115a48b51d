//! The layer DAG: each layer and its parent, in an order in which parents come first.

use std::collections::{BTreeMap, HashMap};

use super::error::Error;
use crate::docker::CacheId;
use crate::forest::Forest;

/// A layer's index in the plan: parents have smaller indexes than their children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerIndex(pub usize);

/// The layers in the order in which they are planned, each with its parent's index.
#[derive(Clone, Debug, Default)]
pub struct LayerGraph {
    layers: Vec<(CacheId, Option<LayerIndex>)>,
}

impl LayerGraph {
    /// Sorts layers that are given in any order: parents first, a chain's layers together, siblings by id.
    ///
    /// The order depends only on the input, so two runs on one root give the same device ids.
    ///
    /// # Errors
    ///
    /// [`Error::MissingParent`] if a layer's parent is not given, [`Error::Cycle`] if layers are their own ancestors.
    pub fn new(parents: &BTreeMap<CacheId, Option<CacheId>>) -> Result<Self, Error> {
        let ids: Vec<&CacheId> = parents.keys().collect();
        let places: HashMap<&CacheId, usize> =
            ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let place_of = |(layer, parent): (&CacheId, &Option<CacheId>)| {
            let Some(parent) = parent else {
                return Ok(None);
            };
            let place = places.get(parent).copied();
            place.map(Some).ok_or_else(|| Error::MissingParent {
                layer: layer.clone(),
                parent: parent.clone(),
            })
        };
        let below = parents
            .iter()
            .map(place_of)
            .collect::<Result<Vec<_>, _>>()?;
        let forest = Forest::new(below.clone());
        if let Some(&place) = forest.on_circles().first() {
            return Err(Error::Cycle {
                layer: ids[place].clone(),
            });
        }
        let mut planned: Vec<Option<LayerIndex>> = vec![None; ids.len()];
        let mut layers = Vec::with_capacity(ids.len());
        for place in forest.by_chain() {
            planned[place] = Some(LayerIndex(layers.len()));
            let parent = below[place].and_then(|parent| planned[parent]);
            layers.push((ids[place].clone(), parent));
        }
        Ok(Self { layers })
    }

    /// The layers, parents first.
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = (LayerIndex, &CacheId, Option<LayerIndex>)> {
        self.layers
            .iter()
            .enumerate()
            .map(|(at, (id, parent))| (LayerIndex(at), id, *parent))
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CacheId {
        CacheId::parse(text.as_bytes()).unwrap()
    }

    fn graph(pairs: &[(&str, &str)]) -> Result<LayerGraph, Error> {
        let parent = |text: &str| (!text.is_empty()).then(|| id(text));
        LayerGraph::new(
            &pairs
                .iter()
                .map(|&(layer, below)| (id(layer), parent(below)))
                .collect(),
        )
    }

    #[test]
    fn parents_come_first_and_chains_stay_together() {
        let graph = graph(&[("a", "z"), ("b", "a"), ("c", "z"), ("z", ""), ("y", "")]).unwrap();
        let order: Vec<_> = graph
            .iter()
            .map(|(_, id, parent)| (id.to_string(), parent.map(|at| at.0)))
            .collect();
        let expected = [
            ("y", None),
            ("z", None),
            ("a", Some(1)),
            ("b", Some(2)),
            ("c", Some(1)),
        ];
        assert_eq!(order, expected.map(|(id, parent)| (id.to_owned(), parent)));
    }

    #[test]
    fn a_missing_parent_is_named() {
        let error = graph(&[("a", "z")]).unwrap_err();
        assert!(
            matches!(error, Error::MissingParent { layer, parent } if layer == id("a") && parent == id("z"))
        );
    }

    #[test]
    fn a_cycle_is_refused() {
        for pairs in [&[("a", "a")][..], &[("x", ""), ("a", "b"), ("b", "a")]] {
            assert!(
                matches!(graph(pairs).unwrap_err(), Error::Cycle { layer } if layer == id("a"))
            );
        }
    }

    #[test]
    fn a_chain_deeper_than_a_stack_is_ordered() {
        let ids: Vec<_> = (0..200_000).map(|at| id(&format!("{at:06}"))).collect();
        let parents = ids
            .iter()
            .enumerate()
            .map(|(at, id)| (id.clone(), at.checked_sub(1).map(|at| ids[at].clone())));
        assert_eq!(LayerGraph::new(&parents.collect()).unwrap().len(), 200_000);
    }
}

//! Which object needs which: leads from a damaged object to the images and containers that it affects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::{Serialize, Serializer};

use super::diagnostics::Subject;
use super::id::{CacheId, ContainerId, ImageId};
use super::reference::Reference;
use crate::tree::escape;

/// The number of users that a [`Hits`] names. A base layer can have ten thousand.
const NAMED: usize = 4;

/// A user of a part of the stores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// A container.
    Container {
        /// Its id.
        id: ContainerId,
        /// Its name, without the slash; empty if it is not known.
        name: String,
    },
    /// An image with its names.
    Image {
        /// Its id.
        id: ImageId,
        /// Its tags and digests.
        references: Vec<Reference>,
    },
    /// The build cache.
    BuildKit,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container { id, name } if name.is_empty() => write!(f, "container {id}"),
            Self::Container { id, name } => {
                write!(f, "container {} ({id})", escape(name.as_bytes()))
            }
            Self::Image { id, references } if references.is_empty() => write!(f, "image {id}"),
            Self::Image { id, references } => {
                let names: Vec<_> = references.iter().map(Reference::to_string).collect();
                write!(f, "image {} ({id})", names.join(", "))
            }
            Self::BuildKit => f.write_str("BuildKit's build cache"),
        }
    }
}

/// The users of a damaged part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Some of them: images with names first, then containers, then the rest.
    pub named: Vec<User>,
    /// How many more there are.
    pub more: usize,
    /// Whether the stores as a whole are damaged.
    pub everything: bool,
}

impl Hits {
    /// Whether nothing needs the damaged part.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.everything
    }
}

impl fmt::Display for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.everything {
            return f.write_str("affects the whole root");
        }
        if self.named.is_empty() {
            return f.write_str("no image or container uses it");
        }
        f.write_str("affects ")?;
        for (index, user) in self.named.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{user}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Serialize for Hits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The objects of the stores, each with edges to the objects that need it.
#[derive(Debug, Default)]
pub(crate) struct Users {
    nodes: HashMap<Subject, u32>,
    subjects: Vec<Subject>,
    needed_by: Vec<Vec<u32>>,
    names: Names,
}

/// The names of users.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) containers: BTreeMap<ContainerId, String>,
    pub(super) references: BTreeMap<ImageId, Vec<Reference>>,
    /// Whether there is a build cache that may hold ids of `BuildKit`'s form.
    pub(super) buildkit: bool,
}

impl Users {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    fn node(&mut self, subject: Subject) -> u32 {
        let next =
            u32::try_from(self.subjects.len()).expect("a root has far fewer than 2^32 objects");
        let node = *self.nodes.entry(subject.clone()).or_insert(next);
        if node == next {
            self.subjects.push(subject);
            self.needed_by.push(Vec::new());
        }
        node
    }

    /// Records that `user` needs `part`.
    pub(super) fn needs(&mut self, user: Subject, part: Subject) {
        let (user, part) = (self.node(user), self.node(part));
        self.needed_by[part as usize].push(user);
    }

    /// The images and containers that need `subject`, directly or through other objects.
    pub(super) fn hits(&self, subject: &Subject) -> Hits {
        if matches!(subject, Subject::Root | Subject::References) {
            return Hits {
                everything: true,
                ..Hits::default()
            };
        }
        let mut users = Vec::new();
        let mut builds = false;
        for reached in self.reach(subject) {
            match reached {
                Subject::Image(id) => users.push(User::Image {
                    id: *id,
                    references: Vec::new(),
                }),
                Subject::Container(id) => users.push(User::Container {
                    id: id.clone(),
                    name: String::new(),
                }),
                Subject::Cache(id) => builds |= self.names.buildkit && id.is_buildkit(),
                _ => {}
            }
        }
        self.rank(users, builds)
    }

    fn rank(&self, mut users: Vec<User>, builds: bool) -> Hits {
        users.sort_by_cached_key(|user| match user {
            User::Image { id, .. } => {
                let name = self.references_of(*id).first();
                (if name.is_some() { 0 } else { 2 }, name, user.clone())
            }
            _ => (1, None, user.clone()),
        });
        if users.is_empty() && builds {
            users.push(User::BuildKit);
        }
        let more = users.len().saturating_sub(NAMED);
        users.truncate(NAMED);
        for user in &mut users {
            match user {
                User::Image { id, references } => *references = self.references_of(*id).to_vec(),
                User::Container { id, name } => {
                    *name = self.name_of(id);
                }
                User::BuildKit => {}
            }
        }
        Hits {
            named: users,
            more,
            everything: false,
        }
    }

    /// The names of an image, tags before digests.
    pub(super) fn references_of(&self, image: ImageId) -> &[Reference] {
        self.names.references.get(&image).map_or(&[], Vec::as_slice)
    }

    /// A container's name, without the slash; empty if it is not known.
    pub(super) fn name_of(&self, container: &ContainerId) -> String {
        let name = self.names.containers.get(container);
        name.cloned().unwrap_or_default()
    }

    /// The users of one aufs layer.
    pub(super) fn of_layer(&self, id: &CacheId) -> Hits {
        self.hits(&Subject::Cache(id.clone()))
    }

    /// `subject` and everything that needs it, directly or through other objects.
    fn reach<'a>(&'a self, subject: &'a Subject) -> Vec<&'a Subject> {
        if !self.nodes.contains_key(subject) {
            return vec![subject];
        }
        self.reach_all(std::slice::from_ref(subject))
    }

    /// Those of the subjects that are known, and everything that needs them, each once.
    pub(super) fn reach_all(&self, subjects: &[Subject]) -> Vec<&Subject> {
        let starts = subjects
            .iter()
            .filter_map(|subject| self.nodes.get(subject));
        let mut seen: HashSet<u32> = HashSet::new();
        let mut reached: Vec<u32> = starts
            .copied()
            .filter(|start| seen.insert(*start))
            .collect();
        let mut next = 0;
        while next < reached.len() {
            for &user in &self.needed_by[reached[next] as usize] {
                if seen.insert(user) {
                    reached.push(user);
                }
            }
            next += 1;
        }
        reached
            .into_iter()
            .map(|node| &self.subjects[node as usize])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(byte: &str) -> ImageId {
        ImageId::from_file_name(byte.repeat(32).as_bytes()).unwrap()
    }

    fn cache(text: &str) -> Subject {
        Subject::Cache(CacheId::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn users_are_found_through_others_and_circles_end() {
        let mut users = Users::default();
        users.needs(cache("b"), cache("a"));
        users.needs(cache("a"), cache("b"));
        users.needs(Subject::Image(image("01")), cache("b"));
        let hits = users.hits(&cache("a"));
        assert_eq!(hits.to_string(), format!("affects image {}", image("01")));
        assert!(users.hits(&cache("other")).is_empty());
    }

    #[test]
    fn a_build_cache_layer_is_not_unused() {
        let hits = |buildkit| {
            let users = Users::new(Names {
                buildkit,
                ..Names::default()
            });
            users.hits(&cache("z889rt0gumm9yu7x8couv1wlu"))
        };
        assert_eq!(hits(true).to_string(), "affects BuildKit's build cache");
        assert!(hits(false).is_empty());
    }

    #[test]
    fn named_images_come_first_and_the_rest_is_counted() {
        let tag = Reference::for_tests("lab/app:1");
        let mut users = Users::new(Names {
            references: BTreeMap::from([(image("ff"), vec![tag])]),
            ..Names::default()
        });
        for byte in 0..NAMED + 2 {
            users.needs(Subject::Image(image(&format!("{byte:02x}"))), cache("a"));
        }
        users.needs(Subject::Image(image("ff")), cache("a"));
        let text = users.hits(&cache("a")).to_string();
        assert!(
            text.starts_with(&format!("affects image lab/app:1 ({})", image("ff"))),
            "{text}"
        );
        assert!(text.ends_with(" and 3 more"), "{text}");
    }
}

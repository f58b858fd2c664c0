//! Whether the engine answers as the standard and as onnxruntime say, on models that are not ours.

#[path = "batches/batches.rs"]
mod batches;
mod cases;
#[path = "edges/edges.rs"]
mod edges;
#[path = "elements/elements.rs"]
mod elements;
#[path = "functions/functions.rs"]
mod functions;
#[path = "nodes/nodes.rs"]
mod nodes;
#[path = "nodes_ml/nodes_ml.rs"]
mod nodes_ml;
#[path = "sklearn/sklearn.rs"]
mod sklearn;
#[path = "sweep/sweep.rs"]
mod sweep;
#[path = "zoo/zoo.rs"]
mod zoo;

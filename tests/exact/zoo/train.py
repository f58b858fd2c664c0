"""Trains a zoo of small pipelines, exports each to ONNX and asks onnxruntime for its answers.

    python train.py OUT [WORD…]     all models, or those whose name holds one of the words

Writes OUT/NAME/model.onnx, its inputs and outputs as .npy and OUT/cases.jsonl, which `zoo.rs` reads.
Everything is seeded. A model that cannot be exported ends the run: it does not belong here.
"""

import json
import os
import pathlib
import sys
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx.common import _container
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import (DoubleTensorType, FloatTensorType, Int64TensorType,
                                        StringTensorType)
from skl2onnx.common.shape_calculator import (calculate_linear_classifier_output_shapes,
                                              calculate_linear_regressor_output_shapes)
from sklearn import (calibration, cluster, compose, cross_decomposition, decomposition, discriminant_analysis,
                     ensemble, feature_selection, gaussian_process, impute, linear_model, mixture, model_selection, multiclass,
                     multioutput, naive_bayes, neighbors, neural_network, pipeline, preprocessing, random_projection, svm, tree)
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

OPSET = {"": 18, "ai.onnx.ml": 3}
ROWS, COLUMNS, SHOWN = 240, 6, 21  # 21: not a multiple of any kernel's lanes

classifier_options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
for kind in (LGBMClassifier, XGBClassifier, XGBRFClassifier):
    convert = convert_lightgbm if kind is LGBMClassifier else convert_xgboost
    update_registered_converter(kind, kind.__name__, calculate_linear_classifier_output_shapes, convert,
                                options=classifier_options)
for kind in (LGBMRegressor, XGBRegressor, XGBRFRegressor):
    convert = convert_lightgbm if kind is LGBMRegressor else convert_xgboost
    update_registered_converter(kind, kind.__name__, calculate_linear_regressor_output_shapes, convert,
                                options={"split": None} if kind is LGBMRegressor else None)

def make_node(*args, **attributes):
    """skl2onnx 1.20 gives some flags as NumPy numbers, which onnx 1.23 does not take for integers any more."""
    flags = lambda value: isinstance(value, list) and value and isinstance(value[0], (bool, np.bool_, np.integer))
    attributes = {key: [int(flag) for flag in value] if flags(value) else value for key, value in attributes.items()}
    return _container_make_node(*args, **attributes)


_container_make_node, _container.make_node = _container.make_node, make_node

rng = np.random.default_rng(7)
X = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
X[:, 4] = rng.integers(0, 5, ROWS)
signal = X[:, 0] + X[:, 1] * X[:, 2] + 0.3 * X[:, 4] + rng.normal(scale=0.2, size=ROWS)
BINARY = (signal > np.median(signal)).astype(np.int64)
THREE = np.digitize(signal, np.quantile(signal, [0.4, 0.8]))
NAMES = np.array(["good", "scratch", "dent"])[THREE]
REAL = signal.astype(np.float32)
COUNTS = rng.poisson(np.exp(0.3 * signal)).astype(np.float32)
SHARE = (1 / (1 + np.exp(-signal))).astype(np.float32)
HOLES = X.copy()
HOLES[rng.random(X.shape) < 0.1] = np.nan
TABLE = pd.DataFrame({
    "torque": X[:, 0],
    "speed": np.where(rng.random(ROWS) < 0.1, np.nan, X[:, 1]).astype(np.float32),
    "wear": rng.integers(0, 4, ROWS),
    "type": rng.choice(["L", "M", "H"], ROWS),
    "line": rng.choice(["north", "süd", "west side"], ROWS),
})
TABLE_SIGNAL = X[:, 0] + 0.5 * (TABLE["type"] == "H") - 0.4 * (TABLE["line"] == "süd") + 0.2 * TABLE["wear"]
TABLE_BINARY = np.where(TABLE_SIGNAL > np.median(TABLE_SIGNAL), "fail", "pass")

# Where onnxruntime adds up in 32 bits what cancels out, it is the less exact of the two.
LOOSE = {"regress_svr_linear": 2e-4, "regress_svr_poly": 2e-4, "regress_gaussian_process": 2e-2}

# By skl2onnx 1.20, or onnxruntime refuses what it makes of them.
NOT_EXPORTED = {("one_vs_one", "names"), ("boosting_zero", "3"), ("boosting_zero", "names"),
                ("xgb_base_score", "3")}

ZOO = []


def zoo(name, model, x=X, y=None, types=None, options=None, target=None):
    ZOO.append((name, model, x, y, types, options, target, LOOSE.get(name, 1e-5)))


def classifiers():
    makers = {
        "logistic": lambda: linear_model.LogisticRegression(max_iter=300),
        "logistic_ovr": lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
        "one_vs_one": lambda: multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
        "ridge": lambda: linear_model.RidgeClassifier(),
        "perceptron": lambda: linear_model.Perceptron(random_state=0),
        "sgd_hinge": lambda: linear_model.SGDClassifier(random_state=0),
        "sgd_log": lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0),
        "sgd_huber": lambda: linear_model.SGDClassifier(loss="modified_huber", random_state=0),
        "linear_svc": lambda: svm.LinearSVC(),
        **{f"svc_{kernel}": (lambda kernel=kernel: svm.SVC(kernel=kernel, gamma=0.2)) for kernel in
           ("linear", "poly", "rbf", "sigmoid")},
        "svc_probability": lambda: svm.SVC(probability=True, random_state=0),
        "nu_svc": lambda: svm.NuSVC(nu=0.2, probability=True, random_state=0),
        "tree": lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0),
        "extra_tree": lambda: tree.ExtraTreeClassifier(random_state=0),
        "forest": lambda: ensemble.RandomForestClassifier(30, random_state=0),
        "extra_trees": lambda: ensemble.ExtraTreesClassifier(20, random_state=0),
        "boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0),
        "boosting_zero": lambda: ensemble.GradientBoostingClassifier(n_estimators=10, init="zero", random_state=0),
        "hist_boosting": lambda: ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0),
        "ada": lambda: ensemble.AdaBoostClassifier(n_estimators=10, random_state=0),
        "bagging": lambda: ensemble.BaggingClassifier(n_estimators=5, random_state=0),
        "knn": lambda: neighbors.KNeighborsClassifier(5),
        "knn_distance": lambda: neighbors.KNeighborsClassifier(3, weights="distance"),
        "gaussian_nb": lambda: naive_bayes.GaussianNB(),
        "bernoulli_nb": lambda: naive_bayes.BernoulliNB(),
        "lda": lambda: discriminant_analysis.LinearDiscriminantAnalysis(),
        "qda": lambda: discriminant_analysis.QuadraticDiscriminantAnalysis(),
        "mlp": lambda: neural_network.MLPClassifier((16, 8), max_iter=60, random_state=0),
        "mlp_tanh": lambda: neural_network.MLPClassifier((12,), activation="tanh", max_iter=60, random_state=0),
        "mlp_logistic": lambda: neural_network.MLPClassifier((12,), activation="logistic", max_iter=60, random_state=0),
        "calibrated_sigmoid": lambda: calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3),
        "calibrated_isotonic": lambda: calibration.CalibratedClassifierCV(
            ensemble.RandomForestClassifier(5, random_state=0), method="isotonic", cv=3),
        "voting_soft": lambda: ensemble.VotingClassifier([
            ("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3, random_state=0))],
            voting="soft", flatten_transform=False),
        "voting_hard": lambda: ensemble.VotingClassifier([
            ("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3, random_state=0)),
            ("c", naive_bayes.GaussianNB())], voting="hard", flatten_transform=False),
        "stacking": lambda: ensemble.StackingClassifier([
            ("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3, random_state=0))],
            cv=3),
        "lgbm": lambda: LGBMClassifier(n_estimators=12, num_leaves=8, min_child_samples=5, verbose=-1, n_jobs=1),
        "lgbm_dart": lambda: LGBMClassifier(n_estimators=8, boosting_type="dart", verbose=-1, n_jobs=1),
        "xgb": lambda: XGBClassifier(n_estimators=12, max_depth=4, n_jobs=1),
        "xgb_base_score": lambda: XGBClassifier(n_estimators=6, max_depth=3, base_score=0.3, n_jobs=1),
    }
    for name, make in makers.items():
        for suffix, y in (("2", BINARY), ("3", THREE), ("names", NAMES)):
            if (name, suffix) in NOT_EXPORTED or suffix == "names" and name.startswith("xgb"):
                continue
            scaled = name in ("mlp", "svc_probability", "logistic")
            model = pipeline.make_pipeline(preprocessing.StandardScaler(), make()) if scaled else make()
            zoo(f"{name}_{suffix}", model, y=y, target="class")
    for name, make in (("multinomial_nb", naive_bayes.MultinomialNB), ("complement_nb", naive_bayes.ComplementNB)):
        zoo(f"{name}_3", make(), x=np.abs(X), y=THREE, target="class")
    zoo("forest_labels_far_apart", ensemble.RandomForestClassifier(10, random_state=0), y=BINARY * 40 - 7)
    zoo("tree_leaves", tree.DecisionTreeClassifier(max_depth=3, random_state=0), y=THREE,
        options={tree.DecisionTreeClassifier: {"zipmap": False, "decision_leaf": True, "decision_path": True}})
    zoo("xgb_rf", XGBRFClassifier(n_estimators=8, max_depth=4, n_jobs=1), y=BINARY)


def regressors():
    makers = {
        "linear": linear_model.LinearRegression(), "ridge": linear_model.Ridge(), "lasso": linear_model.Lasso(0.05),
        "elastic_net": linear_model.ElasticNet(0.05), "huber": linear_model.HuberRegressor(),
        "bayesian_ridge": linear_model.BayesianRidge(), "ransac": linear_model.RANSACRegressor(random_state=0),
        "theil_sen": linear_model.TheilSenRegressor(random_state=0), "quantile": linear_model.QuantileRegressor(alpha=0.01),
        "sgd": linear_model.SGDRegressor(random_state=0), "linear_svr": svm.LinearSVR(),
        **{f"svr_{kernel}": svm.SVR(kernel=kernel, gamma=0.2) for kernel in ("linear", "poly", "rbf", "sigmoid")},
        "nu_svr": svm.NuSVR(), "tree": tree.DecisionTreeRegressor(random_state=0),
        "forest": ensemble.RandomForestRegressor(20, random_state=0),
        "extra_trees": ensemble.ExtraTreesRegressor(20, random_state=0),
        "boosting": ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0),
        "hist_boosting": ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=0),
        "ada": ensemble.AdaBoostRegressor(n_estimators=8, random_state=0),
        "bagging": ensemble.BaggingRegressor(n_estimators=5, random_state=0),
        "knn": neighbors.KNeighborsRegressor(4), "mlp": neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=80, random_state=0),
        "gaussian_process": gaussian_process.GaussianProcessRegressor(alpha=0.1),
        "pls": cross_decomposition.PLSRegression(2),
        "voting": ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=4))]),
        "stacking": ensemble.StackingRegressor([("a", linear_model.Ridge()), ("b", svm.SVR())], cv=3),
        "lgbm": LGBMRegressor(n_estimators=20, num_leaves=8, verbose=-1, n_jobs=1),
        "xgb": XGBRegressor(n_estimators=20, max_depth=4, n_jobs=1),
        "xgb_pseudo_huber": XGBRegressor(n_estimators=10, objective="reg:pseudohubererror", n_jobs=1),
    }
    for name, model in makers.items():
        zoo(f"regress_{name}", model, y=REAL)
    for name, model in (("poisson", linear_model.PoissonRegressor()), ("tweedie", linear_model.TweedieRegressor(power=1)),
                        ("lgbm_poisson", LGBMRegressor(n_estimators=10, objective="poisson", verbose=-1, n_jobs=1)),
                        ("lgbm_tweedie", LGBMRegressor(n_estimators=10, objective="tweedie", verbose=-1, n_jobs=1)),
                        ("xgb_poisson", XGBRegressor(n_estimators=10, objective="count:poisson", n_jobs=1)),
                        ("hist_poisson", ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson"))):
        zoo(f"regress_{name}", model, y=COUNTS)
    zoo("regress_xgb_logistic", XGBRegressor(n_estimators=10, objective="reg:logistic", n_jobs=1), y=SHARE)
    two = np.stack([REAL, -0.5 * REAL + X[:, 3]], 1)
    zoo("regress_two_linear", linear_model.LinearRegression(), y=two)
    zoo("regress_two_forest", ensemble.RandomForestRegressor(8, random_state=0), y=two)
    zoo("regress_two_multi_output", multioutput.MultiOutputRegressor(
        ensemble.GradientBoostingRegressor(n_estimators=5, random_state=0)), y=two)
    for name, model in (("linear", linear_model.Ridge()), ("gaussian_process", gaussian_process.GaussianProcessRegressor(alpha=0.1))):
        zoo(f"regress_doubles_{name}", pipeline.make_pipeline(preprocessing.StandardScaler(), model),
            x=X.astype(np.float64), y=REAL, types=[("X", DoubleTensorType([None, COLUMNS]))])


def others():
    zoo("isolation_forest", ensemble.IsolationForest(n_estimators=20, random_state=0))
    zoo("one_class_svm", svm.OneClassSVM(nu=0.1, gamma=0.2))
    zoo("local_outliers", neighbors.LocalOutlierFactor(novelty=True))
    zoo("k_means", cluster.KMeans(4, n_init=2, random_state=0))
    zoo("mini_batch_k_means", cluster.MiniBatchKMeans(4, n_init=2, random_state=0))
    zoo("gaussian_mixture", mixture.GaussianMixture(3, random_state=0))
    transformers = {
        "standard": preprocessing.StandardScaler(), "standard_no_mean": preprocessing.StandardScaler(with_mean=False),
        "min_max": preprocessing.MinMaxScaler(), "min_max_clip": preprocessing.MinMaxScaler(clip=True),
        "max_abs": preprocessing.MaxAbsScaler(), "robust": preprocessing.RobustScaler(),
        **{f"normalizer_{norm}": preprocessing.Normalizer(norm) for norm in ("l1", "l2", "max")},
        "binarizer": preprocessing.Binarizer(threshold=0.2),
        "bins_one_hot": preprocessing.KBinsDiscretizer(4, encode="onehot-dense"),
        "bins_ordinal": preprocessing.KBinsDiscretizer(4, encode="ordinal"),
        "polynomial": preprocessing.PolynomialFeatures(2), "power": preprocessing.PowerTransformer(),
        "quantile": preprocessing.QuantileTransformer(n_quantiles=50), "pca": decomposition.PCA(3),
        "pca_whiten": decomposition.PCA(3, whiten=True), "svd": decomposition.TruncatedSVD(3),
        "kernel_pca": decomposition.KernelPCA(2, kernel="rbf"),
        "variance": feature_selection.VarianceThreshold(0.5),
        "union": pipeline.make_union(preprocessing.StandardScaler(), decomposition.PCA(2)),
    }
    for name, model in transformers.items():
        zoo(f"transform_{name}", model)
    zoo("transform_best", feature_selection.SelectKBest(k=3), y=BINARY)
    for strategy in ("mean", "median", "most_frequent"):
        zoo(f"impute_{strategy}", impute.SimpleImputer(strategy=strategy), x=HOLES)
    zoo("impute_constant", impute.SimpleImputer(strategy="constant", fill_value=-3.5), x=HOLES)


def holes():
    """Readings that are missing: imputed, or for the trees to decide."""
    zoo("holes_imputed", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler(),
        linear_model.LogisticRegression()), x=HOLES, y=THREE, target="class")
    for name, model in (("hist", ensemble.HistGradientBoostingClassifier(max_iter=15)),
                        ("tree", tree.DecisionTreeClassifier(max_depth=5, random_state=0)),
                        ("forest", ensemble.RandomForestClassifier(10, random_state=0)),
                        ("lgbm", LGBMClassifier(n_estimators=10, min_child_samples=5, verbose=-1, n_jobs=1)),
                        ("xgb", XGBClassifier(n_estimators=10, n_jobs=1))):
        zoo(f"holes_{name}_2", model, x=HOLES, y=BINARY, target="class")
        zoo(f"holes_{name}_3", model.__class__(**model.get_params()), x=HOLES, y=THREE, target="class")
    for name, model in (("hist", ensemble.HistGradientBoostingRegressor(max_iter=15)),
                        ("lgbm", LGBMRegressor(n_estimators=10, min_child_samples=5, verbose=-1, n_jobs=1)),
                        ("xgb", XGBRegressor(n_estimators=10, n_jobs=1))):
        zoo(f"holes_regress_{name}", model, x=HOLES, y=REAL)
    categories = LGBMClassifier(n_estimators=8, min_child_samples=5, verbose=-1, n_jobs=1,
                                categorical_feature=[4], min_data_per_group=5, cat_smooth=1)
    zoo("lgbm_categories", categories, y=BINARY, target="class")


def tables():
    """Several inputs, one a column, of mixed types, as a DataFrame is exported."""
    types = [("torque", FloatTensorType([None, 1])), ("speed", FloatTensorType([None, 1])),
             ("wear", Int64TensorType([None, 1])), ("type", StringTensorType([None, 1])),
             ("line", StringTensorType([None, 1]))]
    numbers = pipeline.make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())
    columns = lambda: compose.ColumnTransformer([
        ("numbers", numbers, ["torque", "speed"]),
        ("words", preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["type", "line"]),
        ("wear", preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["wear"])])
    for name, model in (("logistic", linear_model.LogisticRegression()),
                        ("forest", ensemble.RandomForestClassifier(10, random_state=0)),
                        ("boosting", ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0)),
                        ("svc", svm.SVC()),
                        ("lgbm", LGBMClassifier(n_estimators=8, min_child_samples=5, verbose=-1, n_jobs=1))):
        zoo(f"table_{name}", pipeline.make_pipeline(columns(), model), x=TABLE, y=TABLE_BINARY, types=types, target="class")
    zoo("table_regress", pipeline.make_pipeline(columns(), ensemble.RandomForestRegressor(8, random_state=0)),
        x=TABLE, y=REAL, types=types)
    words, two = TABLE[["type", "line"]], [("words", StringTensorType([None, 2]))]
    zoo("words_one_hot", preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        x=words.to_numpy(object), types=two)
    zoo("words_one_hot_drop", preprocessing.OneHotEncoder(drop="first", sparse_output=False),
        x=words.to_numpy(object), types=two)
    zoo("words_ordinal", preprocessing.OrdinalEncoder(), x=words.to_numpy(object), types=two)
    zoo("words_ordinal_unknown", preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        x=words.to_numpy(object), types=two)
    zoo("whole_numbers_one_hot", preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
        x=TABLE[["wear"]].to_numpy(np.int64), types=[("wear", Int64TensorType([None, 1]))])
    zoo("whole_numbers_tree", tree.DecisionTreeClassifier(random_state=0), x=TABLE[["wear"]].to_numpy(np.int64),
        y=BINARY, types=[("wear", Int64TensorType([None, 1]))], target="class")


def more():
    """The less usual settings and wrappers. Not here, because the exporters or onnxruntime refuse them: XGBoost's dart, gblinear
    and trees of several targets, infrequent categories, normal quantiles, splines, GaussianProcessClassifier; XGBRegressor of two
    targets, which onnxmltools 1.16 exports as if all trees were of the first; and what the engine refuses: KNNImputer, vectorised
    text (`docs/models.md`)."""
    kernels = gaussian_process.kernels
    for name, kernel in (("rbf_white", kernels.RBF() + kernels.WhiteKernel()), ("matern", kernels.Matern(nu=1.5)),
                         ("rational", kernels.RationalQuadratic()), ("dot", kernels.DotProduct() * 0.5)):
        zoo(f"more_process_{name}", pipeline.make_pipeline(preprocessing.StandardScaler(), gaussian_process.GaussianProcessRegressor(
            kernel, alpha=0.1, optimizer=None)), x=X.astype(np.float64), y=REAL, types=[("X", DoubleTensorType([None, COLUMNS]))])
    for metric in ("manhattan", "cosine"):
        zoo(f"more_knn_{metric}", neighbors.KNeighborsClassifier(4, metric=metric, algorithm="brute"), y=THREE, target="class")
    zoo("more_knn_minkowski_3", neighbors.KNeighborsRegressor(4, p=3, weights="distance"), y=REAL)
    two = np.stack([REAL, -0.5 * REAL + X[:, 3]], 1)
    zoo("more_knn_two_targets", neighbors.KNeighborsRegressor(4), y=two)
    zoo("more_neighbourhood", neighbors.NeighborhoodComponentsAnalysis(3, random_state=0, max_iter=10), y=THREE)
    zoo("more_mlp_two_targets", neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, random_state=0), y=two)
    zoo("more_mlp_many_labels", neural_network.MLPClassifier((8,), max_iter=60, random_state=0), y=np.stack([BINARY, THREE > 0], 1).astype(np.int64),
        options={neural_network.MLPClassifier: {"zipmap": False}})
    zoo("more_mixture_diagonal", mixture.GaussianMixture(3, covariance_type="diag", random_state=0))
    zoo("more_mixture_tied", mixture.GaussianMixture(3, covariance_type="tied", random_state=0))
    zoo("more_mixture_bayes", mixture.BayesianGaussianMixture(n_components=3, random_state=0))
    for encode, strategy in (("ordinal", "uniform"), ("onehot-dense", "kmeans")):
        zoo(f"more_bins_{strategy}", preprocessing.KBinsDiscretizer(5, encode=encode, strategy=strategy))
    zoo("more_polynomial_three", preprocessing.PolynomialFeatures(3, interaction_only=True, include_bias=False))
    zoo("more_power_box_cox", preprocessing.PowerTransformer("box-cox"), x=np.abs(X) + np.float32(0.5))
    zoo("more_centred_kernel", preprocessing.KernelCenterer(), x=(X[:COLUMNS] @ X[:COLUMNS].T).astype(np.float32))
    zoo("more_incremental_pca", decomposition.IncrementalPCA(3))
    zoo("more_random_projection", random_projection.GaussianRandomProjection(3, random_state=0))
    zoo("more_pls_two", cross_decomposition.PLSRegression(2), y=two)
    zoo("more_rfe", feature_selection.RFE(linear_model.LogisticRegression(), n_features_to_select=3), y=BINARY)
    zoo("more_select_from_model", feature_selection.SelectFromModel(linear_model.Lasso(0.05)), y=REAL)
    zoo("more_select_percentile", feature_selection.SelectPercentile(percentile=40), y=BINARY)
    zoo("more_searched", model_selection.GridSearchCV(linear_model.LogisticRegression(), {"C": [0.1, 1.0]}, cv=3), y=BINARY, target="class")
    zoo("more_searched_pipeline", model_selection.GridSearchCV(pipeline.make_pipeline(
        preprocessing.StandardScaler(), decomposition.PCA(3), svm.SVC(gamma=0.3)), {"svc__C": [0.5, 2.0]}, cv=3), y=THREE)
    zoo("more_calibrated_svc", calibration.CalibratedClassifierCV(svm.SVC(gamma=0.3), cv=3), y=THREE, target="class")
    zoo("more_calibrated_nb_isotonic", calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), method="isotonic", cv=3), y=BINARY, target="class")
    zoo("more_voting_weights", ensemble.VotingClassifier([
        ("a", linear_model.LogisticRegression()), ("b", ensemble.RandomForestClassifier(5, random_state=0)), ("c", neighbors.KNeighborsClassifier(3))],
        voting="soft", weights=np.array([1, 2, 0.5]), flatten_transform=False), y=THREE, target="class")
    zoo("more_stacking_forest", ensemble.StackingClassifier([
        ("a", ensemble.RandomForestClassifier(5, random_state=0)), ("b", naive_bayes.GaussianNB())],
        ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0), passthrough=True, cv=3), y=THREE, target="class")
    zoo("more_ada_tree", ensemble.AdaBoostClassifier(tree.DecisionTreeClassifier(max_depth=2, random_state=0), n_estimators=8, random_state=0), y=THREE, target="class")
    zoo("more_bagged_features", ensemble.BaggingClassifier(linear_model.LogisticRegression(), 4, max_features=3, random_state=0), y=THREE, target="class")
    zoo("more_one_class_sgd", linear_model.SGDOneClassSVM(random_state=0))
    zoo("more_one_class_poly", svm.OneClassSVM(kernel="poly", degree=2, gamma=0.2))
    zoo("more_categorical_nb", naive_bayes.CategoricalNB(), x=np.abs(np.round(X)), y=BINARY, target="class")
    zoo("more_k_means_doubles", cluster.KMeans(3, n_init=1, random_state=1), x=X.astype(np.float64), types=[("X", DoubleTensorType([None, COLUMNS]))])
    zoo("more_multi_task", linear_model.MultiTaskLasso(0.05), y=two)
    zoo("more_gamma", linear_model.GammaRegressor(), y=SHARE + np.float32(0.1))
    zoo("more_lars", linear_model.LassoLarsIC(), y=REAL)
    zoo("more_logistic_cv", linear_model.LogisticRegressionCV(Cs=3, cv=3, max_iter=200), y=THREE, target="class")
    zoo("more_ridge_cv", linear_model.RidgeClassifierCV(), y=THREE)
    zoo("more_passive", linear_model.SGDClassifier(loss="squared_hinge", random_state=0), y=THREE)
    # Boosted trees from elsewhere.
    lgbm = dict(n_estimators=8, min_child_samples=5, verbose=-1, n_jobs=1)
    categories = dict(categorical_feature=[4], min_data_per_group=5, cat_smooth=1)
    zoo("more_lgbm_categories_3", LGBMClassifier(**lgbm, **categories), y=THREE, target="class")
    zoo("more_lgbm_categories_regress", LGBMRegressor(**lgbm, **categories), y=REAL)
    sparse = np.where(np.arange(ROWS)[:, None] % 7 == 0, np.float32(np.nan), X)
    sparse[:, 4] = X[:, 4]
    zoo("more_lgbm_categories_holes", LGBMClassifier(**lgbm, **categories), x=sparse, y=BINARY, target="class")
    zoo("more_lgbm_rf", LGBMClassifier(**lgbm, boosting_type="rf", bagging_freq=1, bagging_fraction=0.7), y=BINARY, target="class")
    zoo("more_lgbm_goss", LGBMClassifier(**lgbm, data_sample_strategy="goss"), y=THREE, target="class")
    zoo("more_lgbm_ova", LGBMClassifier(**lgbm, objective="multiclassova"), y=THREE, target="class")
    zoo("more_lgbm_unbalanced", LGBMClassifier(**lgbm, is_unbalance=True, sigmoid=0.7), y=BINARY, target="class")
    zoo("more_lgbm_no_missing", LGBMRegressor(**lgbm, use_missing=False), y=REAL)
    zoo("more_lgbm_l1", LGBMRegressor(**lgbm, objective="l1"), y=REAL)
    zoo("more_lgbm_quantile", LGBMRegressor(**lgbm, objective="quantile", alpha=0.9), y=REAL)
    zoo("more_lgbm_gamma", LGBMRegressor(**lgbm, objective="gamma"), y=SHARE + np.float32(0.1))
    zoo("more_lgbm_labels", LGBMClassifier(**lgbm), y=NAMES, target="class")
    zoo("more_lgbm_extra", LGBMClassifier(**lgbm, extra_trees=True, num_leaves=3), y=BINARY, target="class")
    xgb = dict(n_estimators=8, max_depth=3, n_jobs=1)
    zoo("more_xgb_base_score_regress", XGBRegressor(**xgb, base_score=2.5), y=REAL)
    zoo("more_xgb_base_score_log", XGBRegressor(**xgb, objective="count:poisson", base_score=1.5), y=COUNTS)
    zoo("more_xgb_forest", XGBClassifier(n_estimators=3, num_parallel_tree=4, max_depth=3, n_jobs=1), y=THREE, target="class")
    zoo("more_xgb_rf_regress", XGBRFRegressor(n_estimators=6, max_depth=4, n_jobs=1), y=REAL)
    zoo("more_xgb_gamma", XGBRegressor(**xgb, objective="reg:gamma"), y=SHARE + np.float32(0.1))
    zoo("more_xgb_tweedie", XGBRegressor(**xgb, objective="reg:tweedie"), y=COUNTS)
    zoo("more_xgb_absolute", XGBRegressor(**xgb, objective="reg:absoluteerror"), y=REAL)
    zoo("more_xgb_squared_log", XGBRegressor(**xgb, objective="reg:squaredlogerror"), y=SHARE)
    zoo("more_xgb_hinge", XGBClassifier(**xgb, objective="binary:hinge"), y=BINARY, target="class")
    zoo("more_xgb_softmax", XGBClassifier(**xgb, objective="multi:softmax"), y=THREE, target="class")
    zoo("more_xgb_leafwise", XGBClassifier(n_estimators=8, grow_policy="lossguide", max_leaves=7, tree_method="hist", n_jobs=1), y=BINARY, target="class")
    zoo("more_xgb_exact", XGBClassifier(**xgb, tree_method="exact"), x=HOLES, y=THREE, target="class")
    zoo("more_xgb_one_tree", XGBClassifier(n_estimators=1, max_depth=1, n_jobs=1), y=BINARY, target="class")
    zoo("more_xgb_pipeline", pipeline.make_pipeline(preprocessing.StandardScaler(), XGBRegressor(**xgb)), y=REAL)
    mixed = TABLE[["type", "line"]].to_numpy(object)
    words = [("words", StringTensorType([None, 2]))]
    zoo("words_target", preprocessing.TargetEncoder(random_state=0), x=mixed, y=BINARY, types=words)
    zoo("words_imputed", impute.SimpleImputer(strategy="most_frequent", missing_values=""), x=np.where(rng.random(mixed.shape) < 0.2, "", mixed).astype(object), types=words)


def feeds(session, x):
    if isinstance(x, pd.DataFrame):
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(string)": object}
        return {port.name: x[[port.name]].to_numpy(kinds[port.type]) for port in session.get_inputs()}
    return {session.get_inputs()[0].name: x.reshape(len(x), -1)}


def save(path, array):
    array = np.asarray(array)
    np.save(path, array.astype(str) if array.dtype == object else array, allow_pickle=False)


def matrix(scores):
    """A ZipMap's list of dictionaries, as a matrix in the order of its keys, and the keys."""
    keys = list(scores[0])
    return np.array([[row[key] for key in keys] for row in scores], np.float32), keys


def export(out, name, model, x, y, types, options, target, tolerance):
    model.fit(x, y) if y is not None else model.fit(x)
    types = types or [("X", FloatTensorType([None, x.shape[1]]))]
    shown = x[:SHOWN].copy()
    if name.startswith("words"):
        shown[3, 0] = "Q" if "drop" not in name and name != "words_ordinal" else shown[3, 0]
    # Every other classifier keeps its ZipMap, as skl2onnx exports by default.
    if target == "class" and len(name) % 2:
        final = model[-1] if isinstance(model, pipeline.Pipeline) else model
        options = {id(final): {"zipmap": False}}
    proto = convert_sklearn(model, initial_types=types, target_opset=OPSET, options=options)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, folder / "model.onnx")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), settings, ["CPUExecutionProvider"])
    given = feeds(session, shown)
    case = {"name": name, "model": str(folder / "model.onnx"), "inputs": [], "outputs": [], "tolerance": tolerance}
    for i, (port, array) in enumerate(given.items()):
        save(folder / f"input-{i}.npy", array)
        case["inputs"].append({"name": port, "file": str(folder / f"input-{i}.npy")})
    for i, (port, answer) in enumerate(zip(session.get_outputs(), session.run(None, given))):
        keys = None
        if isinstance(answer, list):
            answer, keys = matrix(answer)
        save(folder / f"output-{i}.npy", answer)
        entry = {"name": port.name, "file": str(folder / f"output-{i}.npy")}
        case["outputs"].append(entry | ({"classes": [str(key) for key in keys]} if keys else {}))
    return case


def main():
    out, words = pathlib.Path(sys.argv[1]), sys.argv[2:]
    for part in (classifiers, regressors, others, holes, tables, more):
        part()
    failed = []
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "cases.jsonl", "w") as cases:
        for name, *rest in ZOO:
            if words and not any(word in name for word in words):
                continue
            try:
                cases.write(json.dumps(export(out, name, *rest)) + "\n")
            except Exception as error:  # named below, all at once
                failed.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
    if failed:
        sys.exit("cannot be exported:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()

"""TensorFlow operations that a SavedModel may contain without being trusted.

They compute with tensors, with the model's own variables, and with tables of words or
integers. None of them reads or writes a file, opens a connection, starts a process, or
calls Python or a compiled library, whatever its attributes and inputs are.

The list covers the graphs of Keras 2.14's own layers, with their gradients, and the rest
of TensorFlow's arithmetic. Models with any other operation are refused.
"""

_ARITHMETIC = """
Abs AccumulateNV2 Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin Asinh Atan Atan2 Atanh
Betainc BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1
BesselK1e BesselY0 BesselY1 BitwiseAnd BitwiseOr BitwiseXor Bucketize Cast Ceil ClipByValue Complex
ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp Dawsn Digamma Div DivNoNan Equal
Erf Erfc Erfinv Exp Expint Expm1 Floor FloorDiv FloorMod FresnelCos FresnelSin Greater GreaterEqual
Igamma IgammaGradA Igammac Imag Inv InvGrad Invert IsFinite IsInf IsNan LeftShift Less LessEqual
Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg
NextAfter NotEqual Polygamma PopulationCount Pow Real RealDiv Reciprocal ReciprocalGrad RightShift
Rint Round Rsqrt RsqrtGrad Sign Sin Sinh Spence Sqrt SqrtGrad Square SquaredDifference Sub Tan
TruncateDiv TruncateMod Xdivy Xlog1py Xlogy Zeta
"""

_REDUCTIONS = """
All Any ArgMax ArgMin Bincount DenseBincount EuclideanNorm HistogramFixedWidth InTopK InTopKV2
L2Loss Max Mean Min NthElement Prod SegmentMax SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2
SegmentProd SegmentProdV2 SegmentSum SegmentSumV2 Sum TopK TopKV2 UnsortedSegmentMax
UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
"""

_SHAPES = """
BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo ConcatOffset
ConcatV2 Concat DepthToSpace DynamicPartition DynamicStitch EnsureShape ExpandDims Fill Gather
GatherNd GatherV2 InvertPermutation LinSpace ListDiff LowerBound MirrorPad MirrorPadGrad OneHot
OnesLike Pack Pad PadV2 ParallelConcat ParallelDynamicStitch Range Rank Reshape Reverse
ReverseSequence ReverseV2 Roll ScatterNd ScatterNdNonAliasingAdd Select SelectV2 Shape ShapeN Size
Slice SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StridedSlice StridedSliceGrad
TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
TensorStridedSliceUpdate Tile Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack
UnravelIndex UpperBound Where ZerosLike
"""

_LINEAR_ALGEBRA = """
BandedTriangularSolve BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky CholeskyGrad
ConjugateTranspose Diag DiagPart Eig Einsum LogMatrixDeterminant Lu MatMul MatrixBandPart
MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2
MatrixDiagV3 MatrixExponential MatrixInverse MatrixLogarithm MatrixSetDiag MatrixSetDiagV2
MatrixSetDiagV3 MatrixSolve MatrixSolveLs MatrixSquareRoot MatrixTriangularSolve Qr
SelfAdjointEigV2 Svd TridiagonalMatMul TridiagonalSolve
"""

_SIGNALS = """
BatchFFT BatchFFT2D BatchFFT3D BatchIFFT BatchIFFT2D BatchIFFT3D FFT FFT2D FFT3D IFFT IFFT2D IFFT3D
IRFFT IRFFT2D IRFFT3D RFFT RFFT2D RFFT3D
"""

_NEURAL_NETWORKS = """
AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BiasAdd BiasAddGrad BiasAddV1 Conv2D
Conv2DBackpropFilter Conv2DBackpropInput Conv3D Conv3DBackpropFilterV2 Conv3DBackpropInputV2
CTCGreedyDecoder CTCLoss CTCLossV2 CudnnRNN CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3
CudnnRNNCanonicalToParams CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize CudnnRNNParamsToCanonical
CudnnRNNParamsToCanonicalV2 CudnnRNNV2 CudnnRNNV3 DataFormatDimMap DataFormatVecPermute
DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput
Dilation2D Dilation2DBackpropFilter Dilation2DBackpropInput Elu EluGrad FakeQuantWithMinMaxArgs
FakeQuantWithMinMaxArgsGradient FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsGradient
FakeQuantWithMinMaxVarsPerChannel FakeQuantWithMinMaxVarsPerChannelGradient FractionalAvgPool
FractionalMaxPool FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3
FusedBatchNormV2 FusedBatchNormV3 LeakyRelu LeakyReluGrad LogSoftmax LRN LRNGrad MaxPool MaxPool3D
MaxPool3DGrad MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad MaxPoolGradV2 MaxPoolV2
MaxPoolWithArgmax Relu Relu6 Relu6Grad ReluGrad Selu SeluGrad Sigmoid SigmoidGrad Softmax
SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign SoftsignGrad
SparseSoftmaxCrossEntropyWithLogits Tanh TanhGrad
"""

_IMAGES = """
AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize ExtractImagePatches HSVToRGB
ImageProjectiveTransformV2 ImageProjectiveTransformV3 RGBToHSV ResizeArea ResizeBicubic
ResizeBicubicGrad ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor ResizeNearestNeighborGrad
ScaleAndTranslate ScaleAndTranslateGrad
"""

_RANDOM_NUMBERS = """
Multinomial ParameterizedTruncatedNormal RandomGamma RandomGammaGrad RandomPoissonV2 RandomShuffle
RandomStandardNormal RandomUniform RandomUniformInt RngReadAndSkip RngSkip StatefulRandomBinomial
StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
StatefulUniformInt StatelessMultinomial StatelessParameterizedTruncatedNormal
StatelessRandomBinomial StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg
StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
StatelessRandomNormalV2 StatelessRandomPoisson StatelessRandomUniform StatelessRandomUniformFullInt
StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2
TruncatedNormal
"""

_TEXT = """
AsString ReduceJoin RegexFullMatch RegexReplace StaticRegexFullMatch StaticRegexReplace
StringFormat StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip
StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper
Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript UnicodeTranscode
UnsortedSegmentJoin
"""

_SPARSE_AND_RAGGED = """
DenseCountSparseOutput RaggedBincount RaggedCountSparseOutput RaggedGather RaggedRange
RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant
RaggedTensorToVariantGradient SparseAdd SparseAddGrad SparseBincount SparseConcat
SparseCountSparseOutput SparseCross SparseCrossHashed SparseCrossV2 SparseDenseCwiseAdd
SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows SparseFillEmptyRowsGrad SparseMatMul
SparseReduceMax SparseReduceSum SparseReorder SparseReshape SparseSegmentMean SparseSegmentMeanGrad
SparseSegmentSqrtN SparseSegmentSqrtNGrad SparseSegmentSum SparseSegmentSumGrad SparseSlice
SparseSliceGrad SparseSoftmax SparseSplit SparseTensorDenseAdd SparseTensorDenseMatMul
SparseToDense
"""

_CONTROL_FLOW = """
Assert Case Const ControlTrigger EmptyTensorList FakeParam For Identity IdentityN If
IteratorGetNext NoOp OptionalFromValue OptionalGetValue OptionalHasValue OptionalNone
PartitionedCall Placeholder PlaceholderWithDefault PreventGradient StatefulPartitionedCall
StatelessCase StatelessIf StatelessWhile StopGradient TensorListConcat TensorListConcatLists
TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
TensorListLength TensorListPopBack TensorListPushBack TensorListPushBackBatch TensorListReserve
TensorListResize TensorListScatter TensorListScatterIntoExistingList TensorListScatterV2
TensorListSetItem TensorListSplit TensorListStack ToBool While
"""

_VARIABLES = """
AssignAddVariableOp AssignSubVariableOp AssignVariableOp DisableCopyOnRead ReadVariableOp
ResourceApplyAdaMax ResourceApplyAdadelta ResourceApplyAdagrad ResourceApplyAdagradV2
ResourceApplyAdam ResourceApplyAdamWithAmsgrad ResourceApplyCenteredRMSProp ResourceApplyFtrl
ResourceApplyFtrlV2 ResourceApplyGradientDescent ResourceApplyKerasMomentum ResourceApplyMomentum
ResourceApplyRMSProp ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterDiv
ResourceScatterMax ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd ResourceScatterNdSub
ResourceScatterNdUpdate ResourceScatterSub ResourceScatterUpdate ResourceSparseApplyAdadelta
ResourceSparseApplyAdagrad ResourceSparseApplyAdagradV2 ResourceSparseApplyCenteredRMSProp
ResourceSparseApplyFtrl ResourceSparseApplyFtrlV2 ResourceSparseApplyKerasMomentum
ResourceSparseApplyMomentum ResourceSparseApplyRMSProp ResourceStridedSliceAssign VarHandleOp
VarIsInitializedOp VariableShape
"""

_TABLES = """
AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
AnonymousMutableHashTableOfTensors HashTableV2 LookupTableExportV2 LookupTableFindV2
LookupTableImportV2 LookupTableInsertV2 LookupTableRemoveV2 LookupTableSizeV2
MutableDenseHashTableV2 MutableHashTableOfTensorsV2 MutableHashTableV2
"""

HARMLESS = frozenset(
    " ".join(
        (
            _ARITHMETIC,
            _REDUCTIONS,
            _SHAPES,
            _LINEAR_ALGEBRA,
            _SIGNALS,
            _NEURAL_NETWORKS,
            _IMAGES,
            _RANDOM_NUMBERS,
            _TEXT,
            _SPARSE_AND_RAGGED,
            _CONTROL_FLOW,
            _VARIABLES,
            _TABLES,
        )
    ).split()
)
"""Allowed in every function."""

WHILE_LOADING = frozenset(
    f"Add AddV2 Const Identity NoOp PartitionedCall StatefulPartitionedCall {_TABLES}".split()
)
"""Allowed in functions that TensorFlow runs while it loads the model.

These functions create, fill and save tables.
"""

SAVER = frozenset("MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename".split())
"""Allowed only in the two functions with which TensorFlow saves and restores the model.

No other function may call these two.
"""

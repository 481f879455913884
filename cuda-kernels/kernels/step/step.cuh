// The kernels of a step of the whole method family; src/step/program.rs says in which order they run.
#pragma once
#include "admit.cuh"
#include "direct.cuh"
#include "elementwise.cuh"
#include "estimate.cuh"
#include "finish.cuh"
#include "refresh.cuh"
#include "single_pass.cuh"
#include "start.cuh"

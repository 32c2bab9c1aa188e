// What a run's first step waits for: its data, its model with the weights and the state that it begins
// with, and that all ranks have the same.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "headrace/tensor/naming.h"
#include "headrace/train/config/config.h"
#include "headrace/train/devices.h"
#include "headrace/train/places.h"
#include "headrace/train/samples.h"
#include "headrace/train/trainer.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct Prepared {
  std::unique_ptr<Samples> samples;
  std::unique_ptr<Trainer> trainer;
  Naming naming;
  Places places;
  RunDevices devices;
  std::string origin;  // of the weights, for the user; empty: drawn
};

// Every rank calls it. `say` is called on rank 0. Throws Error where the data does not fit, and where
// ranks were given different things.
Prepared prepare(const Config& config,
                 Transport& transport,
                 const DeviceChoice& choice,
                 const std::function<void(const std::string&)>& say);

// A snapshot of where a run is, with what only its data tells.
Snapshot snapshot_of(const Prepared& run, Trainer::Share how);

}  // namespace headrace

#include "headrace/train/records.h"

#include <nlohmann/json.hpp>

namespace headrace {

using nlohmann::ordered_json;

std::string to_json(const StepRecord& record) {
  ordered_json json{{"step", record.step}, {"loss", record.loss},     {"grad_norm", record.norm},
                    {"lr", record.rate},   {"tokens", record.tokens}, {"seconds", record.seconds}};
  if (record.skipped) json["skipped"] = true;
  if (record.spike) json["spike"] = true;
  return json.dump();
}

std::string to_json(const EvaluationRecord& record) {
  ordered_json json{
      {"step", record.step}, {"validation_loss", record.loss}, {"perplexity", record.perplexity}};
  for (const auto& [name, share] : record.shares) json[name] = share;
  return json.dump();
}

std::optional<std::int64_t> step_of_record(const std::string& line) {
  const auto json = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto step = json.find("step");
  if (step == json.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<std::int64_t>();
}

}  // namespace headrace

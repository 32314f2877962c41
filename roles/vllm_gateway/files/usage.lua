-- Copyright: (c) 2026, compute_plane.vllm contributors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later

-- Reads the tokens that an answer tells, for the access log; nothing of the answer is kept or changed.
-- Within a JSON string quotes are escaped, so what stands between them never looks like this.
-- https://www.arpalert.org/src/haproxy-lua-api/2.7/index.html#filter-class
local Usage = { flags = filter.FLT_CFG_FL_HTX }
Usage.__index = Usage

function Usage:new()
  return setmetatable({ tail = "" }, self)
end

function Usage:start_analyze(txn, channel)
  if channel:is_resp() then
    filter.register_data_filter(self, channel)
  end
end

function Usage:http_payload(txn, message)
  local part = message:body()
  if part == nil then
    return
  end
  local text = self.tail .. part
  for usage in text:gmatch('"usage": ?(%b{})') do
    local prompt = usage:match('"prompt_tokens": ?(%d+)') or usage:match('"input_tokens": ?(%d+)')
    local completion = usage:match('"completion_tokens": ?(%d+)') or usage:match('"output_tokens": ?(%d+)')
    if prompt then
      txn:set_var("txn.prompt_tokens", tonumber(prompt))
    end
    if completion then
      txn:set_var("txn.completion_tokens", tonumber(completion))
    end
  end
  -- It may begin in one part and end in the next.
  self.tail = text:sub(-600)
end

core.register_filter("usage", Usage, function(instance)
  return instance
end)

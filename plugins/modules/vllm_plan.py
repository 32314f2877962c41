#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_plan
short_description: Decide what will be done on a host that serves vLLM, or why not
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Reads the release's data on the controller, probes the host in one round trip with
    M(compute_plane.vllm.vllm_probe), and returns the whole plan or every problem at once, each
    with its remedy.
  - Changes nothing and needs nothing on the host but Python.
  - The rules and all problem codes are described in C(docs/plan.md) of the collection.
options:
  release:
    description:
      - The vLLM version, one of the directories in O(releases_dir); by default the one that the
        file C(releases/default) of the collection names.
      - V(newest-that-fits) is the newest one that the host's driver, GPUs, CPU, Python and C
        library can run and that is locked for the accelerator. The plan names its number.
    type: raw
  accelerator:
    description:
      - V(cuda) (V(gpu) is the same), V(cpu), or V(auto), which is V(cuda) where the host has an
        NVIDIA device.
    type: raw
    default: auto
  instances:
    description:
      - The instances. A key that is not one of these is a problem; flags of vLLM without a key of
        their own go into C(extra_args). Nothing is served without any.
      - Not given is not empty. Where instances are deployed, it is a problem that it is not given,
        for all of them would be removed.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Names the instance, its unit C(vllm@NAME.service) and its files. From 1 to 63 of
            C(a-z), C(0-9), C(.), C(_) and C(-), beginning with a letter or digit; once on a host.
        type: str
        required: true
      model:
        description:
          - A repository of the Hugging Face Hub, C(ORG/NAME), or the absolute path of a directory
            on the host, which is served as it is. Becomes C(--model), the directory of either.
        type: str
        required: true
      revision:
        description:
          - Commit, tag or branch of the repository; C(main) when not given. Only a commit stays
            the same. Becomes part of the directory that C(--model) names.
        type: str
      kind:
        description:
          - What the model is asked for, which decides how it is started, probed and verified.
            V(auto) finds it from the model - V(chat), V(base) (no chat template), V(reasoning) (it
            thinks before it answers), V(embed), V(rerank) (a score for a query and a document),
            V(classify), V(transcribe) (speech) or V(multimodal) (pictures). Becomes C(--runner) and
            C(--convert) where vLLM would choose another, and C(--reasoning-parser) where the
            model's family has one.
        type: str
        choices: [auto, chat, base, reasoning, embed, rerank, classify, transcribe, multimodal]
        default: auto
      served_model_name:
        description:
          - The name that requests give as C(model). C(model) itself when not given; C(name) for a
            directory. Becomes C(--served-model-name).
        type: str
      host:
        description:
          - The address to listen on, C(localhost), or a name with a dot. V(0.0.0.0) is every
            interface, for which an API key is wise. Becomes C(--host).
        type: str
        default: 127.0.0.1
      port:
        description:
          - The TCP port, from 1024 to 65535; below that only root could listen. Becomes C(--port).
        type: int
        default: 8000
      gpus:
        description:
          - The GPUs to use, each by UUID (C(GPU-…), as C(nvidia-smi -L) prints it) or index. Those
            with the least memory promised to other instances when not given. Becomes
            C(CUDA_VISIBLE_DEVICES). Not on accelerator V(cpu).
        type: list
        elements: raw
      tensor_parallel_size:
        description:
          - How many GPUs share each layer, from 1 to 64. Becomes C(--tensor-parallel-size). Not on
            accelerator V(cpu).
        type: int
        default: 1
      attention_backend:
        description:
          - The attention backend, such as V(TRITON_ATTN), V(FLASH_ATTN) or V(FLASHINFER); C(auto)
            tries those that can work when the server is started, and keeps the fastest. With the
            default a model with multi-head latent attention gets V(TRITON_MLA). Becomes
            C(--attention-backend), or C(VLLM_ATTENTION_BACKEND) with a release that takes it so.
            Left out on accelerator V(cpu).
        type: str
        default: TRITON_ATTN
      dtype:
        description:
          - The number format of weights and activations. V(auto) is the model's own, or float16
            where that is bfloat16 and the GPU has none. Becomes C(--dtype).
        type: str
        choices: [auto, half, float16, bfloat16, float, float32]
        default: auto
      max_model_len:
        description:
          - The longest context, in tokens of prompt and answer together, from 1 to 100000000. The
            model's own when not given, or what the GPU's memory holds of it - which vLLM itself
            finds at each start (V(auto)) where the release tells what it took and the GPU is the
            instance's alone, and the plan elsewhere. Becomes C(--max-model-len).
        type: int
      gpu_memory_utilization:
        description:
          - The part of each GPU's memory that the server may take, more than 0 and at most 1.
            Becomes C(--gpu-memory-utilization). Left out on accelerator V(cpu).
          - Where instances share a GPU and the default of each is too much, those without a value
            of their own divide it by what each needs.
        type: float
        default: 0.85
      enforce_eager:
        description:
          - Compile nothing and capture no CUDA graphs, which starts faster, takes less memory and
            answers slower. Becomes C(--enforce-eager).
        type: bool
        default: false
      max_num_seqs:
        description:
          - How many requests are computed at once, from 1 to 65536; vLLM's own default when not
            given. Becomes C(--max-num-seqs).
        type: int
      enable_auto_tool_choice:
        description:
          - Whether the model may call tools. Needs C(tool_call_parser). Becomes
            C(--enable-auto-tool-choice).
        type: bool
        default: false
      tool_call_parser:
        description:
          - The parser of the model's family, such as V(hermes) for Qwen2.5. Needs
            C(enable_auto_tool_choice). Becomes C(--tool-call-parser).
        type: str
      cpu_kvcache_space:
        description:
          - Memory for the KV cache on accelerator V(cpu), in GiB, from 1 to 65536. Becomes
            C(VLLM_CPU_KVCACHE_SPACE). Not on accelerator V(cuda).
        type: int
        default: 1
      environment:
        description:
          - Variables of the server, each a string or a number, without secrets. Those that other
            keys or the plan set are a problem.
        type: dict
        default: {}
      extra_args:
        description:
          - Any other flag of C(vllm serve) by its long name, with dashes or underscores, as it is
            written in vLLM's configuration file. Checked against the release's own list.
        type: dict
        default: {}
      limits:
        description:
          - What the instance may use of the host. A change needs no restart.
        type: dict
        default: {}
        suboptions:
          memory_max:
            description:
              - Memory, in bytes with C(K), C(M), C(G) or C(T) (V(20G)), as a part of the host's
                (V(50%)), or V(infinity). That of C(vllm_service_memory_max) when not given.
                Becomes C(MemoryMax=) of the unit.
            type: str
          tasks_max:
            description:
              - Processes and threads, as a number, as a part of what the host allows (V(50%)), or
                V(infinity). That of C(vllm_service_tasks_max) when not given. Becomes C(TasksMax=)
                of the unit.
            type: str
      lora:
        description:
          - LoRA adapters of the model, by the name that requests give as C(model) - a repository of
            the Hub (C(ORG/NAME)), the absolute path of a directory, or a dictionary of C(model) and
            C(revision). Each is fetched like a model, compared with the model that it is to change,
            and has a slot of its own. Becomes C(--lora-modules), C(--enable-lora), and, where the
            defaults of 16 and 1 are too low, C(--max-lora-rank) and C(--max-loras).
        type: dict
        default: {}
      hosts:
        description:
          - The hosts that the instance spans, by their names in the inventory, the one that
            serves the API first; this host alone when not given. All of them read the same
            instance. There is one pipeline stage a host, and C(tensor_parallel_size) GPUs share
            its layers. Becomes C(--pipeline-parallel-size), C(--nnodes) and what belongs to
            them. See C(docs/groups.md).
        type: list
        elements: str
        default: []
      group_port:
        description:
          - The first of two TCP ports by which the hosts of the instance find each other, from
            1024 to 65534 - the supervisors', and the engines' (C(--master-port)).
        type: int
        default: 29500
      on_demand:
        description:
          - Whether its server is there only while it is asked for. The first request starts it and
            is answered when it is ready; systemd holds its port meanwhile. Becomes C(--uds). See
            C(docs/on-demand.md).
        type: bool
        default: false
      idle_after:
        description:
          - With C(on_demand), seconds without requests after which its server is
            put out, from 1 to 2678400.
        type: int
        default: 900
      wake_timeout:
        description:
          - With C(on_demand), seconds that a request waits for its server at most,
            from 1 to 86400; then it is answered 503 with C(Retry-After).
        type: int
        default: 300
      sleep_level:
        description:
          - With C(on_demand), how its server is put out, from 0 to 2. V(0) stops it; else it sleeps
            and goes on running (vLLM's sleep mode), at V(1) with a copy of the weights in the
            host's memory, at V(2) without one, and reads them again. Becomes
            C(--enable-sleep-mode). See C(docs/on-demand.md).
        type: int
        default: 0
      share:
        description:
          - With C(on_demand), the name of a group of instances that share a place, a
            GPU most often. One is put out for another where they do not fit it together; without
            GPUs one is there at a time. An instance on the same GPU without
            C(on_demand) is never put out. Its own name when not given.
        type: str
  nvcc:
    description:
      - Whether the CUDA compiler must be V(present) or V(absent) on the host, or may be V(any).
    type: raw
    default: any
  opt_dir:
    description: Where the tools and the releases are installed.
    type: raw
    default: /opt/vllm
  etc_dir:
    description: Where the instances' configuration is.
    type: raw
    default: /etc/vllm
  state_dir:
    description: Where what is recorded of the instances is.
    type: raw
    default: /var/lib/vllm
  model_hub:
    description:
      - Where models that come from a Hub are, or will be; by default C(hub) in O(state_dir).
    type: raw
  model_endpoint:
    description:
      - Address of the Hub or of a mirror, which the host asks for what it does not know of its
        models; C(https://huggingface.co) when not given.
    type: raw
  model_token:
    description: Token for private and gated models. It reaches only the O(model_endpoint).
    type: str
  model_from:
    description:
      - The host from which models are copied. Where none is named, a group's model is fetched by
        one member, the leader unless another has it, and copied from there to the others.
    type: str
  ask_hub:
    description:
      - Whether the host asks the Hub (M(compute_plane.vllm.hf_model_info)) for models that it does
        not have. Without it, and without an answer, they are planned when they are there.
    type: bool
    default: true
  hub_facts:
    description:
      - What M(compute_plane.vllm.hf_model_info) returned elsewhere, such as on the host from whose
        cache the models will be copied. The host asks for the others only.
    type: dict
  python:
    description: The only interpreter that may be used for the release's venv.
    type: raw
  runtime_venv:
    description:
      - A virtual environment on the host that somebody made and that serves as it is. It needs no
        lock and is never changed.
    type: raw
  gpu_power_limit:
    description:
      - The power limit of the host's GPUs in watts, one number for all or a dictionary of UUID or
        index to watts. No limit is set when not given.
    type: raw
  offline:
    description:
      - Whether the host installs from a bundle and has no way out, so that packages of the
        operating system which are missing are a problem.
    type: bool
    default: false
  group_address:
    description:
      - The host's address in the network that it shares with the other hosts of an instance
        (O(instances[].hosts)).
    type: str
  members:
    description:
      - The plans of the other hosts of this host's groups (RV(plan)), by host. Without them a
        group is planned by half, RV(group_members) names them, and problems fail no task yet.
    type: dict
  verification:
    description:
      - What will prove the endpoints, so that mistakes in it are found now - C(suite),
        C(questions), C(ability), C(timeout), C(thinking_tokens) and C(thinking_seconds), as
        M(compute_plane.vllm.vllm_verify) takes them.
        JSON schemas in it are checked where the controller's Python has fastjsonschema.
    type: raw
  endpoint:
    description:
      - Who will be told of the endpoints, so that mistakes in it are found now - the variables of
        P(compute_plane.vllm.vllm_endpoint#role) without their C(vllm_endpoint_).
    type: raw
  releases_dir:
    description: The directory of release data on the controller; by default the collection's own.
    type: path
  fail_on_problems:
    description:
      - Whether problems make the task fail. Its result then holds RV(msg) only.
      - With V(false) the task succeeds and returns everything, so that a role can show the
        report and fail afterwards.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and return what it would without.
    support: full
    details:
      - Only reads.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
    details:
      - Changes nothing, so there is no difference to show.
  action:
    description: Has a corresponding action plugin, so some parts run on the controller.
    support: full
seealso:
  - module: compute_plane.vllm.vllm_probe
"""

EXAMPLES = r"""
- name: Decide what will be done, or fail with every reason why not
  compute_plane.vllm.vllm_plan:
    release: "0.14.1"
    instances:
      - name: qwen2.5-7b-instruct
        model: Qwen/Qwen2.5-7B-Instruct
        revision: a09a35458c702b33eeacc393d103063234e8bc28
        max_model_len: 4096
        dtype: float16
  register: plan_result

- name: Look at a host without failing
  compute_plane.vllm.vllm_plan:
    release: "0.14.1"
    instances: "{{ vllm_instances }}"
    fail_on_problems: false
  register: plan_result

- name: Show the report
  ansible.builtin.debug:
    msg: "{{ plan_result.report.splitlines() }}"
"""

RETURN = r"""
problems:
  description: What is wrong; empty when the plan can be carried out.
  type: list
  elements: dict
  returned: when there are no problems, or O(fail_on_problems=false)
  contains:
    code:
      description: What kind of problem it is; C(docs/plan.md) lists them.
      type: str
      sample: wrong-type
    where:
      description: The inventory variable that is wrong, or C(host).
      type: str
      sample: vllm_instances[0].port
    message:
      description: What is wrong.
      type: str
      sample: "'8000' is not a whole number"
    remedy:
      description: What to do about it.
      type: str
      sample: write a whole number
    settings:
      description:
        - The variables of the inventory that the remedy names, in the form of RV(problems[].where),
          with the values that it gives them; null leaves a variable out. There only where it names
          any. When they are set, the problem is gone.
      type: dict
      sample: {"vllm_instances[0].max_model_len": 16384}
    alternatives:
      description: Further ways to end the problem that the remedy names, each like C(settings).
      type: list
      elements: dict
      sample: [{"vllm_instances[0].cpu_kvcache_space": 2}]
msg:
  description: All problems, one a line.
  type: str
  returned: always
  sample: "host: tasks run as user id 1000 — connect as root, or set ansible_become: true"
plan:
  description:
    - The plan, with the keys C(schema), C(release), C(accelerator), C(problems), C(notes),
      C(runtime), C(gpu_power), C(disks), C(instances) and C(removed_instances). C(docs/plan.md)
      describes them.
  type: dict
  returned: when there are no problems, or O(fail_on_problems=false)
  sample:
    schema: 1
    release: 0.14.1
    accelerator: cpu
    problems: []
    notes: []
    removed_instances: []
report:
  description: The plan as text for people, at most 80 columns wide.
  type: str
  returned: when there are no problems, or O(fail_on_problems=false)
  sample: "Found\n-----\n  Host  ac-3090, ubuntu 24.04 x86_64"
hub_questions:
  description:
    - Models of which neither the host nor the Hub says what they are, as C(models) of
      M(compute_plane.vllm.hf_model_info).
  type: list
  elements: dict
  returned: when there are no problems, or O(fail_on_problems=false)
  sample: []
group_members:
  description:
    - Hosts with which this one is in groups and whose plans were not in O(members), so that
      RV(plan) is not whole.
  type: list
  elements: str
  returned: when there are no problems, or O(fail_on_problems=false)
  sample: []
facts:
  description: What M(compute_plane.vllm.vllm_probe) found, and M(compute_plane.vllm.hf_model_info).
  type: dict
  returned: when there are no problems, or O(fail_on_problems=false)
  sample: {}
"""

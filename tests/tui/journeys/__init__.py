"""The journeys of the app: what people come to do, each walked by keys and by mouse.

| journey | file |
|---|---|
| first run | test_first_run |
| the teacher refuses the key | test_key_refused |
| no keyring | test_no_keyring |
| a teacher without logprobs | test_no_logprobs |
| the test of a storage target fails | test_storage_fails |
| a run with a loss that is not finite | test_nan_run |
| stop, resume, and follow the run from a second app | test_second_app |
| compare | test_compare |
| export | test_export |
| settings are changed, and what is outdated is marked | test_outdated |
| in a real browser, through `--web` | test_browser |
| a whole run, over a real SSH connection that is cut | tests/e2e/test_pipeline |
"""

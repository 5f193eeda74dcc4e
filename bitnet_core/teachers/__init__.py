"""Teachers: what each provider can do, how one is opened and probed, and what its refusals mean. They know no traces.

`profiles` and `stage_keys` belong to the light half; the rest is imported only in the process that asks a teacher.
"""

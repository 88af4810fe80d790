import httpx
import numpy as np
import pytest
import tritonclient.http as triton


def test_x(one, url):
    print(url)
    print(httpx.get(url + "/v2").json(), httpx.get(url + "/v2/health/ready").status_code, httpx.get(url+"/v2/models/short").json())
    print(httpx.get(url+"/v2/models/x").json(), httpx.get(url+"/v2/models/short/ready").status_code)
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    inp = triton.InferInput("image", [1,1,8,8], "FP32")
    inp.set_data_from_numpy(one.images[:1])
    r = client.infer("short", [inp])
    print(r.as_numpy("logits"), one.logits[0], r.get_response())
    print(httpx.get(url+"/metrics").text[:6000])
    import time
    c = httpx.Client()
    t=time.time()
    for i in range(200):
        client.infer("short", [inp])
    print((time.time()-t)/200)
